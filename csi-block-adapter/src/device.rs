//! The device side: opens a disk's block device or image file, keeps it from
//! everything else while the VM lives, and learns what qemu must be told.
//!
//! How a disk is kept for one VM:
//!
//! | | block device | image file |
//! |---|---|---|
//! | writable | `O_EXCL`, held | write lock on the guard byte, held |
//! | read-only | `O_EXCL` tried and let go | read lock on the guard byte, held |
//! | shareable | `O_EXCL` tried and let go | read lock on the guard byte, held |
//!
//! `O_EXCL` is the kernel's claim on the device itself. It is what mount, swap,
//! device-mapper and md take, and it holds across containers, each of which
//! has a device node of its own. Locks on the node, qemu's image locks among
//! them, do not: they belong to the inode. Opens without `O_EXCL`, as qemu's
//! own, are not hindered by it. Who only tried it has made sure that no mount
//! and no VM of its own holds the device; one that comes later is not kept out
//! here, but by the claim side.
//!
//! An image in a container image is read-only as it is mounted; what is held
//! like an image file is then its overlay.
//!
//! This module never writes to a disk. It creates an image file that is not
//! there, and never changes one that is.

mod block;
mod content;
mod error;
mod facts;
mod file;
mod holder;
mod image;
mod ioctl;
mod node;
mod overlay;
mod patience;

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

use coracle_api::{
    machine::{Disk, DiskSource},
    types::{CacheMode, DiskType},
};

use nix::sys::statvfs::fstatvfs;

pub use self::{
    content::{Content, Partition, Table},
    error::{Access, DeviceError, NodeKind, Owner},
    facts::{DeviceFacts, Discard, Kind, ScsiFacts},
    holder::{Holder, holders},
    image::{Format, ImageError, ImageFacts},
};
use crate::qemu;

/// How a disk is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) access: Access,
    pub(crate) shareable: bool,
    pub(crate) direct: bool,
}

/// A disk that is open, and kept for this VM while this value lives.
///
/// qemu opens the path once more by itself; this descriptor is the guard.
#[derive(Debug)]
pub struct OpenDisk {
    guard: File,
    /// What was found.
    pub facts: DeviceFacts,
}

impl AsFd for OpenDisk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.guard.as_fd()
    }
}

impl OpenDisk {
    /// Its size now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn size_bytes(&self) -> io::Result<u64> {
        match self.facts.kind {
            Kind::Block { .. } => ioctl::size_bytes(&self.guard),
            // The file that is held may be an overlay, and the image is
            // nobody's to change.
            Kind::File if self.facts.image.is_some() => Ok(self.facts.size_bytes),
            Kind::File => Ok(self.guard.metadata()?.len()),
        }
    }

    /// Whether there may be room for a write that found none. Only of a file
    /// can that be told: of its file system. A thin device has to be tried.
    #[must_use]
    pub fn may_have_room(&self) -> bool {
        match self.facts.kind {
            Kind::Block { .. } => true,
            Kind::File => fstatvfs(&self.guard).map_or(true, |about| about.blocks_available() > 0),
        }
    }

    /// Whether a process has this very disk open, by what its open files are.
    ///
    /// # Errors
    /// When its open files may not be looked at.
    pub fn is_open_in(&self, pid: u32) -> io::Result<bool> {
        let ours = self.guard.metadata()?;
        let same = |theirs: fs::Metadata| match self.facts.kind {
            Kind::Block { .. } => {
                theirs.file_type().is_block_device() && theirs.rdev() == ours.rdev()
            }
            Kind::File => (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()),
        };
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            // One that was closed meanwhile is none.
            if fs::metadata(entry?.path()).is_ok_and(same) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Opens a disk as its VM needs it.
///
/// # Guarantees
/// Nothing is written to a device or to an image that exists; an image file
/// is created, sparse, only where the source says how large it is to be. The
/// path's last component is never followed as a symbolic link.
///
/// # Errors
/// A [`DeviceError`] tells what is wrong with which path and how to mend it;
/// the caller puts the disk's name before it. A cloud-init source is refused
/// ([`DeviceError::CloudInit`]): its seed is a file that the shim makes, which
/// is opened as [`DiskSource::File`].
pub fn open(disk: &Disk) -> Result<OpenDisk, DeviceError> {
    qemu::check(disk).map_err(|source| DeviceError::Impossible { source })?;
    let mode = Mode {
        access: if disk.read_only {
            Access::Read
        } else {
            Access::Write
        },
        shareable: disk.shareable,
        direct: disk.cache == CacheMode::None,
    };
    let (guard, facts) = match &disk.source {
        DiskSource::Block { path } => block::open(path, mode)?,
        DiskSource::File { path, create_bytes } => file::open(path, *create_bytes, mode)?,
        DiskSource::Ephemeral { path, size_bytes } => file::open(path, Some(*size_bytes), mode)?,
        DiskSource::Image {
            root,
            path,
            overlay,
            size_bytes,
        } => {
            let wanted = image::Wanted {
                root,
                path: path.as_deref(),
                overlay: overlay.as_deref(),
                size_bytes: *size_bytes,
            };
            image::open(&wanted, mode)?
        }
        DiskSource::CloudInit { .. } => {
            return Err(DeviceError::CloudInit {
                disk: disk.name.clone(),
            });
        }
    };
    if disk.disk_type == DiskType::Lun {
        qemu::check_lun(&facts).map_err(|source| DeviceError::NotLun {
            path: facts.path.clone(),
            source,
        })?;
    }
    Ok(OpenDisk { guard, facts })
}

/// Learns what can be learned of a block device or image file, read-only and
/// without keeping anybody out.
pub fn inspect(path: &Path) -> Result<DeviceFacts, DeviceError> {
    let text = path.to_str().ok_or_else(|| DeviceError::NotText {
        path: path.to_owned(),
    })?;
    let node = node::look(text)?.ok_or_else(|| DeviceError::NoDevice { path: text.into() })?;
    match node.kind {
        NodeKind::Block => block::inspect(text, &node),
        NodeKind::Regular => file::inspect(text, &node),
        found => Err(node::wrong_kind(
            text,
            "a block device or an image file",
            found,
        )),
    }
}

/// Looks at what a block device or image file holds: partition table and file
/// systems, by their marks. Reads only.
pub fn content(facts: &DeviceFacts) -> Result<Content, DeviceError> {
    let failed = |source| DeviceError::Io {
        path: facts.path.clone(),
        doing: "read",
        source,
    };
    let disk = File::open(&facts.path).map_err(failed)?;
    content::look(&disk, facts.size_bytes, facts.logical_block_size).map_err(failed)
}
