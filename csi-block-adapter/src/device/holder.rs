//! Who holds a disk, as far as it can be seen from here. Of a block device:
//! mounts of this mount namespace, swap, and devices stacked on top
//! (device-mapper, md), but not another VM's descriptor. Of an image file: the
//! locks on it.

use std::{collections::BTreeSet, fmt, fs, path::Path};

use serde::Serialize;

use super::{
    error::DeviceError,
    facts::{DeviceFacts, Kind},
    file,
};

/// Something that holds a block device, one of its partitions, or a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Holder {
    /// A mounted file system.
    Mount {
        /// Where it is mounted.
        at: String,
    },
    /// Swap space.
    Swap {
        /// The device, as it was given to `swapon`.
        device: String,
    },
    /// Another block device on top of it.
    Device {
        /// Its kernel name.
        name: String,
    },
    /// A VM that has the image open.
    Vm,
    /// Another qemu, or qemu-img, that has the image open.
    Qemu,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { at } => write!(f, "mounted at {at}"),
            Self::Swap { device } => write!(f, "swap space {device}"),
            Self::Device { name } => write!(f, "part of {name}"),
            Self::Vm => f.write_str("held by another VM"),
            Self::Qemu => f.write_str("open in a qemu or qemu-img outside of this pod"),
        }
    }
}

/// Who holds a disk, as far as it can be seen from here.
pub fn holders(facts: &DeviceFacts) -> Result<Vec<Holder>, DeviceError> {
    match facts.kind {
        Kind::Block { major, minor } => Ok(of_device(major, minor)),
        Kind::File => file::holders(&facts.path),
    }
}

/// Who holds the block device with these numbers, or one of its partitions.
pub(super) fn of_device(major: u64, minor: u64) -> Vec<Holder> {
    let disk = format!("{major}:{minor}");
    let directory = format!("/sys/dev/block/{disk}");
    let mut numbers = BTreeSet::from([disk]);
    let mut stacked = names_in(&format!("{directory}/holders"));
    for part in names_in(&directory) {
        if !Path::new(&format!("{directory}/{part}/partition")).exists() {
            continue;
        }
        stacked.extend(names_in(&format!("{directory}/{part}/holders")));
        if let Ok(number) = fs::read_to_string(format!("{directory}/{part}/dev")) {
            numbers.insert(number.trim().to_owned());
        }
    }
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let mounts = mounts(&mountinfo, &numbers)
        .into_iter()
        .map(|at| Holder::Mount { at });
    let swaps = swap_devices(&swaps)
        .filter(|device| number_of(device).is_some_and(|number| numbers.contains(&number)))
        .map(|device| Holder::Swap {
            device: device.to_owned(),
        });
    let stacked = stacked.into_iter().map(|name| Holder::Device { name });
    mounts.chain(swaps).chain(stacked).collect()
}

fn names_in(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn number_of(path: &str) -> Option<String> {
    let node = super::node::look(path).ok()??;
    Some(format!("{}:{}", node.number.0, node.number.1))
}

/// Mount points of the devices with these numbers (`proc_pid_mountinfo(5)`: the
/// third field is the number, the fifth the mount point).
fn mounts(mountinfo: &str, numbers: &BTreeSet<String>) -> Vec<String> {
    let fields = mountinfo
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter(|fields| {
            fields
                .get(2)
                .is_some_and(|number| numbers.contains(*number))
        })
        .filter_map(|fields| fields.get(4).map(|at| (*at).replace("\\040", " ")))
        .collect()
}

fn swap_devices(swaps: &str) -> impl Iterator<Item = &str> {
    swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_number_with_spaces_unescaped() {
        let text = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n\
                    37 35 98:1 / /mnt\\040two rw - ext3 /dev/b rw\n\
                    broken\n";
        let numbers = BTreeSet::from(["98:1".to_owned(), "7:0".to_owned()]);
        assert_eq!(mounts(text, &numbers), ["/mnt two"]);
    }

    #[test]
    fn swap_devices_come_after_the_heading() {
        let text = "Filename\tType\tSize\n/dev/loop7  partition 1 0 -2\n";
        assert_eq!(swap_devices(text).collect::<Vec<_>>(), ["/dev/loop7"]);
    }
}
