//! Mediated devices: parts of a device, each in an IOMMU group of its own.

use super::{Selected, What, vfio_nodes};
use crate::host::{Host, Mdev};
use crate::listing::{Entry, Health, Key};
use crate::settings::MdevSelector;

pub(super) fn select<'a>(selectors: &[MdevSelector], host: &'a Host) -> Vec<Selected<'a>> {
    let mut all = vec![];
    for (uuid, device) in &host.mdev {
        if let Some(selector) = selectors.iter().find(|selector| matches(selector, device)) {
            all.push(Selected {
                entry: entry(uuid, device, host),
                what: What::Mdev(uuid),
                line: selector.line,
            });
        }
    }
    all
}

fn matches(selector: &MdevSelector, device: &Mdev) -> bool {
    let kind = |wanted: &String| *wanted == device.kind || Some(wanted) == device.name.as_ref();
    selector.kind.as_ref().is_none_or(kind)
        && selector
            .parent
            .as_ref()
            .is_none_or(|parent| *parent == device.parent)
}

fn entry(uuid: &str, device: &Mdev, host: &Host) -> Entry {
    let mut entry = Entry {
        numa: device.numa,
        key: device.group.map(Key::Group),
        ..Entry::new(uuid)
    };
    let nodes = match device.group {
        Some(group) => vfio_nodes(
            &host.vfio,
            &format!("mdev/{uuid}"),
            group,
            device.cdev.as_deref(),
        ),
        None => Err("it is in no IOMMU group: load the module vfio_mdev".into()),
    };
    match nodes {
        Ok(nodes) => entry.nodes = nodes,
        Err(reason) => entry.health = Health::Unhealthy { reason },
    }
    entry
}
