//! `fsGroup`: a volume's files belong to the pod's group, as the kubelet's
//! `SetVolumeOwnership` does it: the group may read (and write), directories
//! pass the group on.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

/// Whether the group may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writable {
    /// Yes.
    Yes,
    /// It may only read.
    No,
}

/// Gives everything at and below the path to the group; nothing without one.
pub(super) fn apply(path: &Path, group: Option<u32>, writable: Writable) -> io::Result<()> {
    let Some(group) = group else { return Ok(()) };
    let metadata = fs::symlink_metadata(path)?;
    lchown(path, None, Some(group))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mut bits = match writable {
        Writable::Yes => 0o660,
        Writable::No => 0o440,
    };
    if metadata.is_dir() {
        bits |= 0o2110;
    }
    let mode = (metadata.permissions().mode() & 0o7777) | bits;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            apply(&entry?.path(), Some(group), writable)?;
        }
    }
    Ok(())
}
