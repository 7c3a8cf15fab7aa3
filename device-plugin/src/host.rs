//! What the node has: PCI functions, mediated devices, USB devices and
//! character devices, read from sysfs and devfs below roots of the caller's.
//!
//! Reads only, and opens no device. What cannot be read of one device leaves
//! the others as they are.

mod glob;
mod mdev;
mod pci;
mod usb;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

pub(crate) use mdev::Mdev;
pub(crate) use pci::Function;
pub(crate) use usb::{UsbAddress, UsbDevice};

use crate::settings::{Selectors, Settings};

/// Where the node's sysfs and devfs are seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// The host's `/dev`.
    pub dev: PathBuf,
    /// The host's `/sys`.
    pub sys: PathBuf,
}

/// Device nodes of VFIO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vfio {
    /// `/dev/vfio/vfio`.
    pub(crate) container: Option<u64>,
    /// `/dev/vfio/7`, by group.
    pub(crate) groups: BTreeMap<u32, u64>,
    /// `/dev/vfio/devices/vfio0`, by name.
    pub(crate) cdevs: BTreeMap<String, u64>,
    /// `/dev/iommu`.
    pub(crate) iommu: Option<u64>,
}

/// What the node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    /// By address.
    pub(crate) pci: BTreeMap<String, Function>,
    /// By UUID.
    pub(crate) mdev: BTreeMap<String, Mdev>,
    /// By port.
    pub(crate) usb: BTreeMap<String, UsbDevice>,
    /// Character devices by path below `/dev`, as far as they are asked for.
    pub(crate) nodes: BTreeMap<String, u64>,
    pub(crate) vfio: Vfio,
}

impl Host {
    /// The IOMMU group of what has this name.
    pub(crate) fn group(&self, id: &str) -> Option<u32> {
        let function = self.pci.get(id).and_then(|function| function.group);
        function.or_else(|| self.mdev.get(id)?.group)
    }
}

/// Looks at what the settings ask for, and at these devices.
pub(crate) fn scan(roots: &Roots, settings: &Settings, builtin: &[&str]) -> Host {
    let mut host = Host::default();
    let asked =
        |kind: fn(&Selectors) -> bool| settings.resources.iter().any(|spec| kind(&spec.selectors));
    let pci = asked(|selectors| matches!(selectors, Selectors::Pci(_)));
    let mdev = asked(|selectors| matches!(selectors, Selectors::Mdev(_)));
    if pci {
        host.pci = pci::scan(&roots.sys);
    }
    if mdev {
        host.mdev = mdev::scan(&roots.sys);
    }
    if pci || mdev {
        host.vfio = vfio(&roots.dev);
    }
    if asked(|selectors| matches!(selectors, Selectors::Usb(_))) {
        host.usb = usb::scan(roots);
    }
    let mut globs: BTreeSet<&str> = builtin.iter().copied().collect();
    for spec in &settings.resources {
        if let Selectors::Chardev(all) = &spec.selectors {
            globs.extend(all.iter().map(|chardev| chardev.glob.as_str()));
        }
    }
    for pattern in globs {
        host.nodes.extend(glob::find(&roots.dev, pattern));
    }
    host
}

/// Whether a path below `/dev` is one that the pattern stands for.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    glob::matches(pattern, path)
}

/// The directories below `/dev` where something may come or go that the
/// settings or these devices ask for.
pub(crate) fn directories(
    roots: &Roots,
    settings: &Settings,
    builtin: &[&str],
) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::from([roots.dev.clone()]);
    let mut globs: Vec<&str> = builtin.to_vec();
    for spec in &settings.resources {
        match &spec.selectors {
            Selectors::Chardev(nodes) => globs.extend(nodes.iter().map(|node| node.glob.as_str())),
            Selectors::Pci(_) | Selectors::Mdev(_) => {
                globs.extend(["vfio/vfio", "vfio/devices/vfio0"]);
            }
            Selectors::Usb(_) => {}
        }
    }
    for glob in globs {
        let mut dir = roots.dev.clone();
        let mut parts = glob.split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() || glob::is_pattern(part) {
                break;
            }
            dir.push(part);
            all.insert(dir.clone());
        }
    }
    all
}

fn vfio(dev: &Path) -> Vfio {
    let dir = dev.join("vfio");
    let numbered = |name: &String| name.parse::<u32>().ok();
    let numbers: Vec<u32> = names(&dir).iter().filter_map(numbered).collect();
    let groups = numbers
        .into_iter()
        .filter_map(|group| Some((group, char_device(&dir.join(group.to_string()))?)));
    let devices = dir.join("devices");
    let cdevs = names(&devices).into_iter().filter_map(|name| {
        let rdev = char_device(&devices.join(&name))?;
        Some((name, rdev))
    });
    Vfio {
        container: char_device(&dir.join("vfio")),
        groups: groups.collect(),
        cdevs: cdevs.collect(),
        iommu: char_device(&dev.join("iommu")),
    }
}

/// The numbers of a character device, if it is there and is one.
pub(crate) fn char_device(path: &Path) -> Option<u64> {
    let there = fs::metadata(path).ok()?;
    there.file_type().is_char_device().then(|| there.rdev())
}

/// The names in a directory, in order; none when it is not there.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// An attribute of a device.
fn attribute(device: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(device.join(name)).ok()?;
    Some(text.trim_end().to_owned())
}

/// An attribute that is a hexadecimal number, with or without 0x.
fn hex(device: &Path, name: &str) -> Option<u32> {
    let text = attribute(device, name)?;
    u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// What a link of a device leads to, by its last name.
fn link(device: &Path, name: &str) -> Option<String> {
    let target = fs::read_link(device.join(name)).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// The IOMMU group of a device.
fn group(device: &Path) -> Option<u32> {
    link(device, "iommu_group")?.parse().ok()
}

/// The name of a device's own VFIO node.
fn cdev(device: &Path) -> Option<String> {
    names(&device.join("vfio-dev")).into_iter().next()
}

/// The NUMA node of a device; the kernel says -1 where there is none.
fn numa(device: &Path) -> Option<u32> {
    attribute(device, "numa_node")?.parse().ok()
}

#[cfg(test)]
mod tests;
