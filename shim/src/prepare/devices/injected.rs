//! Devices whose nodes a plugin had the runtime make (by CDI, say) and of which
//! no variable speaks.
//!
//! A container has no nodes in `/dev/vfio` and `/dev/bus/usb` but those it was
//! given. Those that no variable names are taken for the devices that have no
//! variable, when that can be done in one way only: all such devices are of one
//! resource, and there are exactly as many.

use std::collections::BTreeSet;

use coracle_api::machine::Device;

use super::DeviceError;
use super::assign::{Assigned, Id, names};
use super::locate::{Host, is_vfio, target};
use super::node::list;

/// Fills what `assigned` lacks.
pub(super) fn fill(
    devices: &[Device],
    mut assigned: Vec<Option<Assigned>>,
    host: &Host<'_>,
) -> Result<Vec<Assigned>, (usize, DeviceError)> {
    let missing: Vec<usize> = (0..assigned.len())
        .filter(|index| assigned[*index].is_none())
        .collect();
    if let Some(first) = missing.first() {
        let named: BTreeSet<Id> = assigned.iter().flatten().map(|a| a.id.clone()).collect();
        let nodes = unnamed(host, &named);
        let resources: BTreeSet<&str> = missing
            .iter()
            .map(|index| devices[*index].resource.as_str())
            .collect();
        let variable = || names(&devices[*first].resource).swap_remove(0);
        if nodes.is_empty() {
            let variable = variable();
            return Err((*first, DeviceError::NotGiven { variable }));
        }
        if resources.len() > 1 || nodes.len() != missing.len() {
            let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            let error = DeviceError::Ambiguous {
                nodes: nodes.join(", "),
                variable: variable(),
            };
            return Err((*first, error));
        }
        for (index, id) in missing.into_iter().zip(nodes) {
            assigned[index] = Some(Assigned { variable: None, id });
        }
    }
    Ok(assigned.into_iter().flatten().collect())
}

/// The devices behind the container's nodes, without those that have a name.
fn unnamed(host: &Host<'_>, named: &BTreeSet<Id>) -> Vec<Id> {
    let groups = list(&host.dev.join("vfio"));
    let groups = groups
        .iter()
        .filter_map(|node| node.file_name()?.to_str()?.parse::<u32>().ok());
    let mut ids: Vec<Id> = Vec::new();
    for group in groups {
        let members = members(host, group);
        // A variable that names one function of a group means the group.
        if !members.iter().any(|id| named.contains(id)) {
            ids.extend(members);
        }
    }
    let named_usb = named
        .iter()
        .filter(|id| matches!(id, Id::UsbPort(_) | Id::UsbNumber(..)))
        .filter_map(|id| host.locate(id).ok())
        .collect::<BTreeSet<_>>();
    let usb = host.usb_nodes().filter_map(|node| {
        let number = |part: Option<&std::ffi::OsStr>| part?.to_str()?.parse().ok();
        let id = Id::UsbNumber(
            number(node.parent()?.file_name())?,
            number(node.file_name())?,
        );
        let passed = super::Passed::Usb {
            hostdevice: node.display().to_string(),
        };
        (!named_usb.contains(&passed)).then_some(id)
    });
    ids.extend(usb);
    ids
}

/// The devices of a group that VFIO drives.
fn members(host: &Host<'_>, group: u32) -> Vec<Id> {
    let dir = host
        .sys
        .join(format!("kernel/iommu_groups/{group}/devices"));
    let devices = list(&dir);
    let devices = devices.iter().filter_map(|device| {
        let id = Id::parse(device.file_name()?.to_str()?)?;
        let driver = target(&device.join("driver"));
        let is_mdev = matches!(id, Id::Mdev(_));
        (is_mdev || driver.is_some_and(|driver| is_vfio(&driver))).then_some(id)
    });
    devices.collect()
}
