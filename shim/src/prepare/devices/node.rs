//! Device nodes in the container: what they are and whether they open.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{major, minor};

use super::DeviceError;

/// Opens a node for reading and writing, as qemu will, and lets go of it.
pub(super) fn opens(node: &Path) -> Result<(), DeviceError> {
    let opened = OpenOptions::new().read(true).write(true).open(node);
    opened.map(drop).map_err(|source| DeviceError::Open {
        node: node.to_owned(),
        hint: hint(&source),
        source,
    })
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES) => {
            "its mode does not let this user in; let the device plugin give a node for every \
             user, or set device_ownership_from_security_context = true in the container runtime"
        }
        Some(Errno::EPERM) => "the container was not given it by its device plugin",
        Some(Errno::EBUSY) => "another process has it; no two VMs share an IOMMU group",
        Some(Errno::ENXIO | Errno::ENODEV) => {
            "there is no device behind it; delete the pod to have it made again"
        }
        _ => "see the node's kernel log",
    }
}

/// A node's numbers, as `major:minor`.
pub(super) fn numbers(node: &Path) -> Option<String> {
    let rdev = fs::metadata(node).ok()?.rdev();
    Some(format!("{}:{}", major(rdev), minor(rdev)))
}

/// What a directory has, in order; nothing where there is none.
pub(super) fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
