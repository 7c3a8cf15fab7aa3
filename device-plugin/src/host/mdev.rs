//! Mediated devices, from `/sys/bus/mdev/devices`: each is a link into the
//! device that it is a part of.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{attribute, cdev, group, link, names, numa};

/// A mediated device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mdev {
    /// The type's identifier.
    pub(crate) kind: String,
    /// The type's name for people.
    pub(crate) name: Option<String>,
    /// The device that it is a part of.
    pub(crate) parent: String,
    pub(crate) group: Option<u32>,
    pub(crate) numa: Option<u32>,
    /// The name of its own VFIO node.
    pub(crate) cdev: Option<String>,
}

pub(super) fn scan(sys: &Path) -> BTreeMap<String, Mdev> {
    let dir = sys.join("bus/mdev/devices");
    let devices = names(&dir).into_iter().filter_map(|uuid| {
        let device = read(&dir.join(&uuid))?;
        Some((uuid, device))
    });
    devices.collect()
}

/// Nothing when it went away meanwhile.
fn read(device: &Path) -> Option<Mdev> {
    let real = fs::canonicalize(device).ok()?;
    let parent = real.parent()?;
    Some(Mdev {
        kind: link(device, "mdev_type")?,
        name: attribute(&device.join("mdev_type"), "name"),
        parent: parent.file_name()?.to_str()?.to_owned(),
        group: group(device),
        numa: numa(parent),
        cdev: cdev(device),
    })
}
