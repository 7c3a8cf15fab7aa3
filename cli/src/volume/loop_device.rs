//! Loop devices: an image file as a block device (loop(4)).
//!
//! The image is locked (flock(2)) before it is attached. The loop driver keeps
//! the very open file it was given, and with it the lock, so an image stays
//! locked exactly as long as it is attached, even when the process that
//! attached it is gone: no two VMs get one image, with no daemon to ask.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::host::{self, FileId};
use super::{Access, VolumeError};

mod ioctl;

/// How often another process may take the free loop device first.
const RACES: usize = 64;
/// How long udev may look at a device that is being freed.
const FREE_TRIES: u32 = 40;
const FREE_PAUSE: Duration = Duration::from_millis(50);

/// An attached loop device, held open.
#[derive(Debug)]
pub(super) struct LoopDevice {
    path: PathBuf,
    device: u64,
    image: PathBuf,
    file: FileId,
    /// Autoclear frees the device when this and the container's are closed.
    _held: File,
}

/// Which loop device an image was attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoopRecord {
    /// The loop device, as `/dev/loop3`.
    pub path: PathBuf,
    /// The image.
    pub image: PathBuf,
    /// Device number of the image's file system; with the inode it tells
    /// whether the loop device is still this image's.
    pub image_device: u64,
    /// The image's inode.
    pub image_inode: u64,
}

impl LoopDevice {
    /// Attaches an image to a free loop device.
    pub(super) fn attach(
        claim: &str,
        image: &Path,
        id: FileId,
        access: Access,
    ) -> Result<Self, VolumeError> {
        let file = host::open(claim, image, access, 0)?;
        lock(claim, image, &file, access)?;
        // Checked before and not by the kernel, which would cut the last
        // bytes off.
        host::size(claim, image)?;
        if let Some(loop_device) = find_other(id, access) {
            let (claim, path) = (claim.into(), image.into());
            return Err(VolumeError::ImageAttached {
                claim,
                path,
                loop_device,
            });
        }
        let failed = |source| VolumeError::Loop {
            claim: claim.into(),
            path: image.into(),
            source,
        };
        let (path, held) = configure(&file, image, access).map_err(failed)?;
        let device = held.metadata().map_err(failed)?.rdev();
        Ok(Self {
            path,
            device,
            image: image.into(),
            file: id,
            _held: held,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The device's numbers.
    pub(super) fn device(&self) -> u64 {
        self.device
    }

    pub(super) fn record(&self) -> LoopRecord {
        LoopRecord {
            path: self.path.clone(),
            image: self.image.clone(),
            image_device: self.file.device,
            image_inode: self.file.inode,
        }
    }
}

fn lock(claim: &str, image: &Path, file: &File, access: Access) -> Result<(), VolumeError> {
    let locked = match access {
        Access::ReadOnly => file.try_lock_shared(),
        Access::Exclusive | Access::Shared => file.try_lock(),
    };
    let (claim, path) = (claim.into(), image.into());
    locked.map_err(|error| match error {
        TryLockError::WouldBlock => VolumeError::ImageLocked { claim, path },
        TryLockError::Error(source) => VolumeError::Inaccessible {
            claim,
            path,
            source,
        },
    })
}

fn configure(file: &File, image: &Path, access: Access) -> io::Result<(PathBuf, File)> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    for _ in 0..RACES {
        let path = PathBuf::from(format!("/dev/loop{}", ioctl::get_free(&control)?));
        let writable = access != Access::ReadOnly;
        let device = OpenOptions::new().read(true).write(writable).open(&path)?;
        match ioctl::configure(&device, file, image, writable) {
            Ok(()) => return Ok((path, device)),
            // Someone else took it between the two calls.
            Err(Errno::EBUSY) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::other(format!(
        "{RACES} free loop devices were taken by others first"
    )))
}

/// A loop device that the image is attached to already and that would get in
/// the way: any for a writer, one that can write for a reader.
fn find_other(file: FileId, access: Access) -> Option<PathBuf> {
    let names = fs::read_dir("/sys/block").ok()?.flatten().filter(|entry| {
        entry.file_name().as_encoded_bytes().starts_with(b"loop")
            && entry.path().join("loop").exists()
    });
    let mut paths = names.map(|entry| Path::new("/dev").join(entry.file_name()));
    paths.find(|path| {
        let attached = status(path).ok().flatten();
        attached.is_some_and(|other| {
            other.file == file && !(other.read_only && access == Access::ReadOnly)
        })
    })
}

/// What a loop device is attached to; `None` when it is free.
fn status(path: &Path) -> io::Result<Option<ioctl::Status>> {
    let device = File::open(path)?;
    if !device.metadata()?.file_type().is_block_device() {
        return Ok(None);
    }
    match ioctl::status(&device) {
        Ok(status) => Ok(Some(status)),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

impl LoopRecord {
    fn is_attached(&self) -> Result<bool, VolumeError> {
        let file = FileId {
            device: self.image_device,
            inode: self.image_inode,
        };
        match status(&self.path) {
            Ok(status) => Ok(status.is_some_and(|status| status.file == file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(VolumeError::Free {
                path: self.path.clone(),
                source,
            }),
        }
    }

    /// Frees the loop device, if it is still the image's.
    pub(super) fn detach(&self) -> Result<(), VolumeError> {
        let failed = |source| VolumeError::Free {
            path: self.path.clone(),
            source,
        };
        for _ in 0..FREE_TRIES {
            if !self.is_attached()? {
                return Ok(());
            }
            let device = File::open(&self.path).map_err(failed)?;
            match ioctl::clear(&device) {
                // While others have it open this only asks for autoclear.
                Ok(()) | Err(Errno::ENXIO) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            drop(device);
            if !self.is_attached()? {
                return Ok(());
            }
            // udev opens every device that changes, for some milliseconds.
            thread::sleep(FREE_PAUSE);
        }
        Err(VolumeError::StillOpen {
            path: self.path.clone(),
        })
    }
}
