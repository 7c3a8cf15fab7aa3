//! What the host does with a device: whether it is mounted, swapped to, held
//! by another device, open exclusively, read-only. Looks only; the one thing
//! it opens it closes at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{major, minor};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::{Access, VolumeError, mountinfo};

const SWAPS: &str = "/proc/swaps";
const SYS_BLOCK: &str = "/sys/dev/block";

/// What can play a raw block claim.
pub(super) enum Kind {
    /// A block device, with its numbers.
    BlockDevice(u64),
    /// An image file.
    File(FileId),
}

/// Which file it is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

fn inaccessible(claim: &str, path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    move |source| VolumeError::Inaccessible {
        claim: claim.into(),
        path: path.into(),
        source,
    }
}

/// Tells block devices and files from everything else.
pub(super) fn examine(claim: &str, path: &Path) -> Result<Kind, VolumeError> {
    let metadata = fs::metadata(path).map_err(inaccessible(claim, path))?;
    if metadata.file_type().is_block_device() {
        Ok(Kind::BlockDevice(metadata.rdev()))
    } else if metadata.is_file() {
        Ok(Kind::File(FileId::of(&metadata)))
    } else {
        let what = describe(&metadata);
        Err(VolumeError::NotADisk {
            claim: claim.into(),
            path: path.into(),
            what,
        })
    }
}

/// A directory that can be read, and written to when the VM writes.
pub(super) fn check_directory(claim: &str, path: &Path, access: Access) -> Result<(), VolumeError> {
    let metadata = fs::metadata(path).map_err(inaccessible(claim, path))?;
    if !metadata.is_dir() {
        let what = describe(&metadata);
        return Err(VolumeError::NotADirectory {
            claim: claim.into(),
            path: path.into(),
            what,
        });
    }
    let flags = statvfs(path)
        .map_err(|errno| inaccessible(claim, path)(errno.into()))?
        .flags();
    if access != Access::ReadOnly && flags.contains(FsFlags::ST_RDONLY) {
        return Err(VolumeError::ReadOnly {
            claim: claim.into(),
            path: path.into(),
        });
    }
    Ok(())
}

fn describe(metadata: &fs::Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_dir() {
        "directory"
    } else if kind.is_block_device() {
        "block device"
    } else if kind.is_char_device() {
        "character device"
    } else if kind.is_fifo() {
        "named pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "file"
    }
}

/// Refuses a device that the host uses: mounted, swap, held by another
/// device; itself or any of its partitions.
pub(super) fn check_unused(claim: &str, path: &Path, device: u64) -> Result<(), VolumeError> {
    let devices = with_partitions(&numbers(device));
    check_not_mounted(claim, path, &devices)?;
    check_not_swap(claim, path)?;
    check_not_held(claim, path, Path::new(SYS_BLOCK), &devices)
}

/// Device mapper, RAID and the like list what they are built on as held.
pub(super) fn check_not_held(
    claim: &str,
    path: &Path,
    sys_block: &Path,
    devices: &[String],
) -> Result<(), VolumeError> {
    for device in devices {
        if let Some(holder) = entries(&sys_block.join(device).join("holders")).next() {
            return Err(VolumeError::Held {
                claim: claim.into(),
                path: path.into(),
                holder,
            });
        }
    }
    Ok(())
}

fn check_not_mounted(claim: &str, path: &Path, devices: &[String]) -> Result<(), VolumeError> {
    let mounts = mountinfo::mounts().map_err(|source| VolumeError::Kernel {
        path: mountinfo::MOUNTINFO.into(),
        source,
    })?;
    for mount in mounts {
        // Some file systems (btrfs) have a device number of their own; then
        // only the source tells which device is below.
        let source = || Some(numbers(block_device(&mount.source)?));
        let device = if devices.contains(&mount.device) {
            Some(mount.device.clone())
        } else {
            source()
        };
        if let Some(device) = device.filter(|device| devices.contains(device)) {
            return Err(VolumeError::Mounted {
                claim: claim.into(),
                path: path.into(),
                device: name(&device),
                mount_point: mount.point,
            });
        }
    }
    Ok(())
}

/// Refuses what `/proc/swaps` lists: a device, one of its partitions, a file.
pub(super) fn check_not_swap(claim: &str, path: &Path) -> Result<(), VolumeError> {
    let text = fs::read_to_string(SWAPS).map_err(|source| VolumeError::Kernel {
        path: SWAPS.into(),
        source,
    })?;
    let swaps = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    // A blank in a path is written as an octal escape; no other matters here.
    let swaps = swaps.map(|swap| PathBuf::from(swap.replace("\\040", " ")));
    let wanted = block_device(path).map(|device| with_partitions(&numbers(device)));
    for swap in swaps {
        let same = match &wanted {
            Some(devices) => {
                block_device(&swap).is_some_and(|device| devices.contains(&numbers(device)))
            }
            None => same_file(&swap, path),
        };
        if same {
            return Err(VolumeError::Swap {
                claim: claim.into(),
                path: path.into(),
                swap,
            });
        }
    }
    Ok(())
}

fn same_file(one: &Path, other: &Path) -> bool {
    let id = |path| {
        fs::metadata(path)
            .map(|metadata| FileId::of(&metadata))
            .ok()
    };
    id(one).is_some_and(|one| id(other) == Some(one))
}

/// The numbers of the block device at a path, if there is one.
pub(super) fn block_device(path: &Path) -> Option<u64> {
    let absolute = path
        .is_absolute()
        .then(|| fs::metadata(path).ok())
        .flatten()?;
    absolute
        .file_type()
        .is_block_device()
        .then(|| absolute.rdev())
}

/// As sysfs and mountinfo write device numbers.
pub(super) fn numbers(device: u64) -> String {
    format!("{}:{}", major(device), minor(device))
}

/// The device and its partitions.
fn with_partitions(device: &str) -> Vec<String> {
    let dir = Path::new(SYS_BLOCK).join(device);
    let partitions = entries(&dir).filter(|entry| dir.join(entry).join("partition").exists());
    let numbers = partitions.filter_map(|part| fs::read_to_string(dir.join(part).join("dev")).ok());
    let numbers = numbers.map(|text| text.trim().to_owned());
    std::iter::once(device.to_owned()).chain(numbers).collect()
}

/// The whole disk that a partition is on; for a disk, itself.
pub(super) fn whole_disk(device: u64) -> String {
    let numbers = numbers(device);
    let dir = Path::new(SYS_BLOCK).join(&numbers);
    if !dir.join("partition").exists() {
        return numbers;
    }
    // The link's own target, then its parent: `..` of the link would be
    // another directory.
    let parent = fs::canonicalize(&dir)
        .ok()
        .and_then(|dir| dir.parent().map(Path::to_owned));
    let text = parent.and_then(|disk| fs::read_to_string(disk.join("dev")).ok());
    text.map_or(numbers, |text| text.trim().to_owned())
}

fn entries(dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// The kernel's name of a device, for messages.
fn name(device: &str) -> String {
    let link = fs::read_link(Path::new(SYS_BLOCK).join(device)).ok();
    let name = link.as_deref().and_then(Path::file_name);
    name.map_or_else(
        || device.to_owned(),
        |name| format!("/dev/{}", name.to_string_lossy()),
    )
}

/// Opens the device as the VM will, and closes it again. The last word has
/// whoever opens it in the container; this is for a clear error early on.
pub(super) fn check_openable(claim: &str, path: &Path, access: Access) -> Result<(), VolumeError> {
    let flags = match access {
        Access::Shared => 0,
        // With a block device O_EXCL means: nobody else may have it so.
        Access::Exclusive | Access::ReadOnly => libc::O_EXCL,
    };
    let device = open(claim, path, access, flags)?;
    // A device that is set read-only can still be opened for writing.
    let metadata = device.metadata().map_err(inaccessible(claim, path))?;
    let ro = Path::new(SYS_BLOCK)
        .join(numbers(metadata.rdev()))
        .join("ro");
    let read_only = fs::read_to_string(ro).is_ok_and(|text| text.trim() == "1");
    if read_only && access != Access::ReadOnly {
        return Err(VolumeError::ReadOnly {
            claim: claim.into(),
            path: path.into(),
        });
    }
    Ok(())
}

/// Opens for what the VM is to do.
pub(super) fn open(
    claim: &str,
    path: &Path,
    access: Access,
    flags: libc::c_int,
) -> Result<File, VolumeError> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(access != Access::ReadOnly)
        .custom_flags(flags);
    options.open(path).map_err(|source| {
        let (claim, path) = (claim.into(), path.into());
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EBUSY) => VolumeError::Busy { claim, path },
            Some(Errno::EROFS) => VolumeError::ReadOnly { claim, path },
            Some(Errno::EPERM | Errno::EACCES) if access != Access::ReadOnly => {
                VolumeError::ReadOnly { claim, path }
            }
            _ => VolumeError::Inaccessible {
                claim,
                path,
                source,
            },
        }
    })
}

/// The size of a block device or file, in bytes: whole sectors, at least one.
pub(super) fn size(claim: &str, path: &Path) -> Result<u64, VolumeError> {
    let end = File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0)));
    let size = end.map_err(inaccessible(claim, path))?;
    if size == 0 || size % 512 != 0 {
        return Err(VolumeError::Sectors {
            claim: claim.into(),
            path: path.into(),
            size,
        });
    }
    Ok(size)
}
