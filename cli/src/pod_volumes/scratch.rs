//! Empty volumes, on a disk or in memory, and the end of all volumes.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::PodVolumeError;
use crate::volume::{mountinfo, quantity};

/// Where an empty volume's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// Where the directory is.
    Disk,
    /// In a tmpfs, of at most so many bytes.
    Memory {
        /// Without it, half of the machine's memory.
        limit: Option<u64>,
    },
}

/// Makes the directory an empty volume.
pub(super) fn make(dir: &Path, medium: Medium) -> Result<(), PodVolumeError> {
    if let Medium::Memory { limit } = medium {
        mount_tmpfs(dir, limit).map_err(|errno| PodVolumeError::Mount {
            path: dir.into(),
            source: errno.into(),
        })?;
    }
    fs::set_permissions(dir, Permissions::from_mode(0o777)).map_err(|source| {
        PodVolumeError::Write {
            path: dir.into(),
            source,
        }
    })
}

/// A tmpfs that is never swapped out, where the kernel can (6.4 and newer): it
/// holds secrets.
fn mount_tmpfs(dir: &Path, limit: Option<u64>) -> nix::Result<()> {
    let size = limit.map(|bytes| format!("size={bytes}"));
    let tmpfs = |options: &str| {
        mount(
            Some("tmpfs"),
            dir,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options),
        )
    };
    let with: Vec<&str> = size.as_deref().into_iter().chain(["noswap"]).collect();
    match tmpfs(&with.join(",")) {
        Err(Errno::EINVAL) => tmpfs(size.as_deref().unwrap_or_default()),
        done => done,
    }
}

/// How large an emptyDir in memory may grow: its own limit or the pod's memory
/// limit, whichever is less.
pub(super) fn memory_limit(
    pod: &Pod,
    volume: &str,
    source: &EmptyDirVolumeSource,
) -> Result<Option<u64>, PodVolumeError> {
    let bytes = |text: &str| {
        quantity::bytes(text).ok_or_else(|| PodVolumeError::Size {
            volume: volume.into(),
            size: text.into(),
        })
    };
    let own = source
        .size_limit
        .as_ref()
        .map(|limit| bytes(&limit.0))
        .transpose()?;
    // Zero means no limit of its own.
    let own = own.filter(|limit| *limit > 0);
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let pods = containers.try_fold(0_u64, |sum, container| match container_limit(container) {
        Some(text) => bytes(text)
            .map(|bytes| sum.saturating_add(bytes))
            .map_err(Some),
        None => Err(None),
    });
    let pods = match pods {
        Ok(sum) => Some(sum),
        // One container without a limit: the pod has none.
        Err(None) => None,
        Err(Some(error)) => return Err(error),
    };
    Ok(own.into_iter().chain(pods.filter(|limit| *limit > 0)).min())
}

fn container_limit(container: &Container) -> Option<&str> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    limits.get("memory").map(|limit| limit.0.as_str())
}

/// Unmounts everything below a directory and removes it; nothing of it is left
/// when this returns, and it is no error if there was nothing.
pub(super) fn remove(dir: &Path) -> Result<(), PodVolumeError> {
    // Mounts are listed by their real paths.
    let real = match fs::canonicalize(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        real => real.map_err(|source| PodVolumeError::Remove {
            path: dir.into(),
            source,
        })?,
    };
    let mounted = mountinfo::below(&real).map_err(|source| PodVolumeError::Unmount {
        path: dir.into(),
        source,
    })?;
    for point in mounted.iter().filter(|point| **point != real) {
        // Lazily when something still has a file open there: the mount is
        // gone from here at once, and its memory with the last open file.
        let done = match umount2(point, MntFlags::UMOUNT_NOFOLLOW) {
            Err(Errno::EBUSY) => umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW),
            done => done,
        };
        done.map_err(|errno| PodVolumeError::Unmount {
            path: point.clone(),
            source: errno.into(),
        })?;
    }
    fs::remove_dir_all(&real).map_err(|source| PodVolumeError::Remove { path: real, source })
}
