//! Opening a block device.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
};

use nix::fcntl::OFlag;

use super::{
    Mode,
    error::{Access, DeviceError, NodeKind},
    facts::{DeviceFacts, Discard, Kind, ScsiFacts},
    holder, ioctl,
    node::{self, Node},
    patience,
};

/// Opens the block device at `path`.
pub(super) fn open(path: &str, mode: Mode) -> Result<(File, DeviceFacts), DeviceError> {
    let node = node::look(path)?.ok_or_else(|| DeviceError::NoDevice { path: path.into() })?;
    match node.kind {
        NodeKind::Block => open_node(path, &node, mode),
        found => Err(node::wrong_kind(path, "a block device", found)),
    }
}

/// Opens the block device that was already looked at.
pub(super) fn open_node(
    path: &str,
    node: &Node,
    mode: Mode,
) -> Result<(File, DeviceFacts), DeviceError> {
    let (major, minor) = node.number;
    let before = sequence_in_sysfs(major, minor);
    let file = if mode.access == Access::Write && !mode.shareable {
        open_exclusive(path, Access::Write)
    } else {
        // Nobody holds it, and it is not held: readers and sharers come
        // beside each other.
        open_exclusive(path, mode.access).and_then(|_| open_raw(path, mode.access, Exclusive::No))
    }
    .map_err(|error| explain(path, node, mode.access, error))?;
    node::verify(path, node, &file)?;
    let facts = learn(path, node, &file)?;
    let found = facts.disk_sequence;
    if let (Some(seen), Some(found)) = (before, found)
        && seen != found
    {
        return Err(DeviceError::Changed { path: path.into() });
    }
    if mode.access == Access::Write && facts.read_only {
        return Err(DeviceError::ReadOnly { path: path.into() });
    }
    Ok((file, facts))
}

/// Learns what can be learned, keeping nobody out.
pub(super) fn inspect(path: &str, node: &Node) -> Result<DeviceFacts, DeviceError> {
    let file = open_raw(path, Access::Read, Exclusive::No)
        .map_err(|error| node::refused(path, node, Access::Read, error))?;
    node::verify(path, node, &file)?;
    learn(path, node, &file)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Exclusive {
    Yes,
    No,
}

fn open_raw(path: &str, access: Access, exclusive: Exclusive) -> io::Result<File> {
    let mut flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    flags.set(OFlag::O_EXCL, exclusive == Exclusive::Yes);
    OpenOptions::new()
        .read(true)
        .write(access == Access::Write)
        .custom_flags(flags.bits())
        .open(path)
}

fn open_exclusive(path: &str, access: Access) -> io::Result<File> {
    patience::while_busy(
        |error: &io::Error| error.kind() == io::ErrorKind::ResourceBusy,
        || open_raw(path, access, Exclusive::Yes),
    )
}

/// Adds to the errno what only a second look tells: who holds the device, and
/// whether write access was refused by the device or by its node's mode.
fn explain(path: &str, node: &Node, access: Access, error: io::Error) -> DeviceError {
    match node::refused(path, node, access, error) {
        DeviceError::Busy { path, .. } => {
            let (major, minor) = node.number;
            DeviceError::Busy {
                path,
                holders: holder::of_device(major, minor),
            }
        }
        DeviceError::Permission { path, .. }
            if access == Access::Write
                && open_raw(&path, Access::Read, Exclusive::No)
                    .and_then(|file| ioctl::read_only(&file))
                    .unwrap_or(false) =>
        {
            DeviceError::ReadOnly { path }
        }
        other => other,
    }
}

fn learn(path: &str, node: &Node, file: &File) -> Result<DeviceFacts, DeviceError> {
    let failed = |doing| {
        move |source| DeviceError::Io {
            path: path.into(),
            doing,
            source,
        }
    };
    let size_bytes = ioctl::size_bytes(file).map_err(failed("read the size of"))?;
    if size_bytes == 0 {
        return Err(DeviceError::Empty { path: path.into() });
    }
    let sizes = failed("read the sector sizes of");
    let (major, minor) = node.number;
    let queue = Queue::of(major, minor);
    Ok(DeviceFacts {
        path: path.into(),
        kind: Kind::Block { major, minor },
        size_bytes,
        logical_block_size: ioctl::logical_block_size(file).map_err(&sizes)?,
        physical_block_size: ioctl::physical_block_size(file).map_err(&sizes)?,
        rotational: queue.read("rotational").map(|value| value != 0),
        discard: queue.discard(),
        read_only: ioctl::read_only(file).map_err(failed("read the read-only flag of"))?,
        disk_sequence: ioctl::disk_sequence(file),
        scsi: scsi(file, major, minor),
        image: None,
    })
}

/// The number of the device's use, seen without opening it: a container may
/// not see sysfs, then nothing is known.
fn sequence_in_sysfs(major: u64, minor: u64) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/diskseq")).ok()?;
    text.trim().parse().ok()
}

fn scsi(file: &File, major: u64, minor: u64) -> ScsiFacts {
    let device = format!("/sys/dev/block/{major}:{minor}");
    let partition = std::fs::exists(format!("{device}/partition")).unwrap_or(false);
    let peripheral_type = std::fs::read_to_string(format!("{device}/device/type")).ok();
    ScsiFacts {
        sg_version: ioctl::sg_version(file),
        peripheral_type: peripheral_type.and_then(|text| text.trim().parse().ok()),
        partition,
    }
}

/// The device's `queue` directory in sysfs. A container may not see it: then
/// nothing is known, and nothing is assumed.
struct Queue {
    directory: String,
}

impl Queue {
    fn of(major: u64, minor: u64) -> Self {
        let device = format!("/sys/dev/block/{major}:{minor}");
        // A partition has its disk's queue, one directory up.
        let up = if std::fs::exists(format!("{device}/partition")).unwrap_or(false) {
            "/.."
        } else {
            ""
        };
        Self {
            directory: format!("{device}{up}/queue"),
        }
    }

    fn read(&self, attribute: &str) -> Option<u64> {
        let text = std::fs::read_to_string(format!("{}/{attribute}", self.directory)).ok()?;
        text.trim().parse().ok()
    }

    fn discard(&self) -> Discard {
        match (
            self.read("discard_max_bytes"),
            self.read("discard_granularity"),
        ) {
            (Some(0), _) => Discard::Unsupported,
            (Some(_), Some(granularity)) => match u32::try_from(granularity) {
                Ok(0) | Err(_) => Discard::Unknown,
                Ok(granularity_bytes) => Discard::Supported { granularity_bytes },
            },
            (_, None) | (None, _) => Discard::Unknown,
        }
    }
}
