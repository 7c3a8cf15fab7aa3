//! Volumes on this node: staged (a loop device, a mounted file system) and
//! published (shown at a path). Every step can be taken twice.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::statvfs::statvfs;

use super::Backend;
use crate::access::Access;
use crate::error::{CsiError, io};
use crate::{loops, mounts};

/// How full a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// A block device: nobody but its user knows what is on it.
    Block { total: u64 },
    /// A file system.
    Mount { total: u64, free: u64 },
}

impl Backend {
    /// Makes a volume's device, and mounts its file system.
    pub(crate) fn stage(&self, id: &str, staging: &Path, access: &Access) -> Result<(), CsiError> {
        self.volume(id)?;
        let device = loops::attach(&self.volumes.data(id), false)?;
        if let Access::Mount { flags } = access {
            mounts::mount_device(&device, staging, flags)?;
        }
        tracing::info!(volume = %id, device = %device.display(), "staged");
        Ok(())
    }

    /// Unmounts a volume's file system, and frees its devices.
    pub(crate) fn unstage(&self, id: &str, staging: &Path) -> Result<(), CsiError> {
        mounts::unmount(staging)?;
        loops::detach(id, &self.volumes.data(id))?;
        tracing::info!(volume = %id, "unstaged");
        Ok(())
    }

    /// Shows a staged volume at a path.
    pub(crate) fn publish(
        &self,
        id: &str,
        staging: &Path,
        target: &Path,
        access: &Access,
        read_only: bool,
    ) -> Result<(), CsiError> {
        self.volume(id)?;
        let data = self.volumes.data(id);
        let not_staged = || CsiError::NotStaged { id: id.to_owned() };
        if loops::on(&data)?.is_empty() {
            return Err(not_staged());
        }
        match access {
            // A device that is read-only cannot be written through any node
            // of it; hence a second one.
            Access::Block => mounts::bind_device(&loops::attach(&data, read_only)?, target)?,
            Access::Mount { .. } if !mounts::is_mounted(staging)? => return Err(not_staged()),
            Access::Mount { .. } => mounts::bind_directory(staging, target, read_only)?,
        }
        tracing::info!(volume = %id, target = %target.display(), read_only, "published");
        Ok(())
    }

    /// Lets the device, and the file system at `path`, take the volume's size,
    /// and returns it.
    pub(crate) fn expand_device(&self, id: &str, path: &Path) -> Result<u64, CsiError> {
        let bytes = self.volume(id)?.bytes;
        let there = there(path)?;
        let data = self.volumes.data(id);
        loops::refresh(&data)?;
        if there.is_dir() {
            for found in loops::on(&data)?.iter().filter(|found| !found.read_only) {
                loops::program(Command::new("resize2fs").arg(&found.device))?;
            }
        }
        tracing::info!(volume = %id, bytes, "expanded on the node");
        Ok(bytes)
    }

    /// How full the volume at a path is.
    pub(crate) fn usage(&self, id: &str, path: &Path) -> Result<Usage, CsiError> {
        let total = self.volume(id)?.bytes;
        if !there(path)?.is_dir() {
            return Ok(Usage::Block { total });
        }
        let usage = statvfs(path).map_err(|errno| io("look at", path)(errno.into()))?;
        Ok(Usage::Mount {
            total: usage.blocks() * usage.fragment_size(),
            free: usage.blocks_available() * usage.fragment_size(),
        })
    }
}

/// What is at the path of a published volume.
fn there(path: &Path) -> Result<fs::Metadata, CsiError> {
    fs::metadata(path).map_err(|_| CsiError::NotThere {
        path: path.to_path_buf(),
    })
}
