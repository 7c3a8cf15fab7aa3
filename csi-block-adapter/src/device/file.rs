//! Opening an image file, and keeping it for one VM.
//!
//! The lock is an open file description lock on one byte of the file that
//! qemu's own image locks leave alone (block/file-posix.c has permissions at
//! 100 and what is not shared at 200), so that qemu can open the same file
//! beside it. Before it is taken, the bytes of qemu are probed too: an image
//! that some other qemu or qemu-img has open is refused here, where the error
//! can be clear, and not by the qemu of this VM.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    sys::statvfs::{FsFlags, fstatvfs},
};

use super::{
    Mode, block,
    error::{Access, DeviceError, NodeKind},
    facts::{DeviceFacts, Discard, Kind, ScsiFacts},
    holder::Holder,
    node::{self, Node},
    patience,
};

/// The unit of addressing that every bus can show for a file.
pub(super) const SECTOR: u32 = 512;
/// The byte that is locked for as long as a VM has the file.
const GUARD_BYTE: i64 = 300;
/// All bytes that qemu may lock.
const QEMU_BYTES: (i64, i64) = (100, 200);
/// qemu holds this one while it may write (`BLK_PERM_WRITE`).
const QEMU_WRITER: (i64, i64) = (101, 1);

/// Opens the image at `path`, or the block device in its place. Where nothing
/// is there and a size is given, a sparse file is created.
pub(super) fn open(
    path: &str,
    create_bytes: Option<u64>,
    mode: Mode,
) -> Result<(File, DeviceFacts), DeviceError> {
    let node = match (node::look(path)?, create_bytes) {
        (Some(node), _) => Some(node),
        (None, Some(bytes)) => {
            check_size(path, bytes)?;
            create(path)?;
            node::look(path)?
        }
        (None, None) => None,
    };
    let node = node.ok_or_else(|| DeviceError::NoFile { path: path.into() })?;
    match node.kind {
        NodeKind::Regular => open_node(path, &node, create_bytes, mode),
        NodeKind::Block => block::open_node(path, &node, mode),
        found => Err(node::wrong_kind(
            path,
            "an image file or a block device",
            found,
        )),
    }
}

/// Learns what can be learned, keeping nobody out.
pub(super) fn inspect(path: &str, node: &Node) -> Result<DeviceFacts, DeviceError> {
    let file = open_raw(path, Access::Read)
        .map_err(|error| node::refused(path, node, Access::Read, error))?;
    node::verify(path, node, &file)?;
    learn(path, &file)
}

fn open_node(
    path: &str,
    node: &Node,
    create_bytes: Option<u64>,
    mode: Mode,
) -> Result<(File, DeviceFacts), DeviceError> {
    let file = hold_node(path, node, mode)?;
    if let Some(bytes) = create_bytes {
        give_size(path, &file, bytes)?;
    }
    let facts = learn(path, &file)?;
    if mode.direct {
        probe_direct(path, &file)?;
    }
    Ok((file, facts))
}

/// Opens a file of any format, and keeps it, without a look at what is in it.
pub(super) fn hold(path: &str, mode: Mode) -> Result<File, DeviceError> {
    let node = node::look(path)?.ok_or_else(|| DeviceError::NoFile { path: path.into() })?;
    if node.kind != NodeKind::Regular {
        return Err(node::wrong_kind(path, "an image file", node.kind));
    }
    let file = hold_node(path, &node, mode)?;
    if mode.direct {
        probe_direct(path, &file)?;
    }
    Ok(file)
}

fn hold_node(path: &str, node: &Node, mode: Mode) -> Result<File, DeviceError> {
    let file = open_raw(path, mode.access)
        .map_err(|error| node::refused(path, node, mode.access, error))?;
    node::verify(path, node, &file)?;
    lock(path, &file, mode)?;
    Ok(file)
}

fn open_raw(path: &str, access: Access) -> io::Result<File> {
    let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    OpenOptions::new()
        .read(true)
        .write(access == Access::Write)
        .custom_flags(flags.bits())
        .open(path)
}

fn check_size(path: &str, bytes: u64) -> Result<(), DeviceError> {
    if bytes == 0 {
        return Err(DeviceError::Empty { path: path.into() });
    }
    if !bytes.is_multiple_of(u64::from(SECTOR)) {
        return Err(DeviceError::Size {
            path: path.into(),
            bytes,
        });
    }
    Ok(())
}

/// Creates the file, without a size. Whoever comes second to the same path
/// leaves what is there.
fn create(path: &str) -> Result<(), DeviceError> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o660)
        .open(path);
    match created {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(DeviceError::Io {
            path: path.into(),
            doing: "create",
            source: error,
        }),
        // What refuses a new file is its directory.
        Err(error) => {
            let directory = Path::new(path)
                .parent()
                .and_then(Path::to_str)
                .unwrap_or("/");
            match node::look(directory)? {
                Some(node) => Err(node::refused(directory, &node, Access::Write, error)),
                None => Err(DeviceError::Io {
                    path: path.into(),
                    doing: "create",
                    source: error,
                }),
            }
        }
    }
}

/// Makes an empty file a sparse one of the given size, under the lock. An
/// empty file has nothing to lose: it was just created, here or by a process
/// that ended right after. A file with bytes in it stays as it is.
fn give_size(path: &str, locked: &File, bytes: u64) -> Result<(), DeviceError> {
    let failed = |source| DeviceError::Io {
        path: path.into(),
        doing: "set the size of",
        source,
    };
    if locked.metadata().map_err(failed)?.len() != 0 {
        return Ok(());
    }
    check_size(path, bytes)?;
    // The locked descriptor may be for reading only.
    open_raw(path, Access::Write)
        .and_then(|file| file.set_len(bytes))
        .map_err(failed)
}

fn learn(path: &str, file: &File) -> Result<DeviceFacts, DeviceError> {
    let failed = |source| DeviceError::Io {
        path: path.into(),
        doing: "look at",
        source,
    };
    let size_bytes = file.metadata().map_err(failed)?.len();
    check_size(path, size_bytes)?;
    let flags = fstatvfs(file)
        .map_err(|errno| failed(errno.into()))?
        .flags();
    let read_only = flags.contains(FsFlags::ST_RDONLY);
    Ok(facts(path, size_bytes, read_only))
}

/// What there is to know of a file's disk beside its size.
pub(super) fn facts(path: &str, size_bytes: u64, read_only: bool) -> DeviceFacts {
    DeviceFacts {
        path: path.into(),
        kind: Kind::File,
        size_bytes,
        logical_block_size: SECTOR,
        physical_block_size: SECTOR,
        rotational: None,
        discard: Discard::Unknown,
        read_only,
        disk_sequence: None,
        scsi: ScsiFacts::default(),
        image: None,
    }
}

/// Who has the image open, without keeping anybody out.
pub(super) fn holders(path: &str) -> Result<Vec<Holder>, DeviceError> {
    let file = open_raw(path, Access::Read).map_err(|source| DeviceError::Io {
        path: path.into(),
        doing: "open",
        source,
    })?;
    if is_locked(path, &file, (GUARD_BYTE, 1))? {
        return Ok(vec![Holder::Vm]);
    }
    Ok(if is_locked(path, &file, QEMU_BYTES)? {
        vec![Holder::Qemu]
    } else {
        vec![]
    })
}

/// Takes the guard lock, with patience for those who let go at once.
fn lock(path: &str, file: &File, mode: Mode) -> Result<(), DeviceError> {
    patience::while_busy(
        |error| matches!(error, DeviceError::Busy { .. }),
        || try_lock(path, file, mode),
    )
}

/// Takes the guard lock, and looks at qemu's.
fn try_lock(path: &str, file: &File, mode: Mode) -> Result<(), DeviceError> {
    let busy = |holder| DeviceError::Busy {
        path: path.into(),
        holders: vec![holder],
    };
    let (kind, foreign) = match (mode.shareable, mode.access) {
        (true, _) => (libc::F_RDLCK, None),
        (false, Access::Write) => (libc::F_WRLCK, Some(QEMU_BYTES)),
        (false, Access::Read) => (libc::F_RDLCK, Some(QEMU_WRITER)),
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&region(kind, (GUARD_BYTE, 1)))) {
        Ok(_) => {}
        Err(Errno::EAGAIN | Errno::EACCES) => return Err(busy(Holder::Vm)),
        Err(errno) => {
            return Err(DeviceError::Io {
                path: path.into(),
                doing: "lock",
                source: errno.into(),
            });
        }
    }
    match foreign {
        Some(bytes) if is_locked(path, file, bytes)? => Err(busy(Holder::Qemu)),
        Some(_) | None => Ok(()),
    }
}

/// Whether another open file description has any lock on these bytes.
fn is_locked(path: &str, file: &File, bytes: (i64, i64)) -> Result<bool, DeviceError> {
    let mut probe = region(libc::F_WRLCK, bytes);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe)).map_err(|errno| DeviceError::Io {
        path: path.into(),
        doing: "look at the locks of",
        source: errno.into(),
    })?;
    Ok(i32::from(probe.l_type) != libc::F_UNLCK)
}

fn region(kind: i32, (start, len): (i64, i64)) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).expect("lock types are 0, 1 and 2"),
        l_whence: i16::try_from(libc::SEEK_SET).expect("SEEK_SET is 0"),
        l_start: start,
        l_len: len,
        // Locks of an open file description have no owner.
        l_pid: 0,
    }
}

/// Asks the file system whether it can do direct I/O, by switching it on and
/// off again.
fn probe_direct(path: &str, file: &File) -> Result<(), DeviceError> {
    let failed = |errno: Errno| DeviceError::Io {
        path: path.into(),
        doing: "probe direct I/O on",
        source: errno.into(),
    };
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL).map_err(failed)?);
    match fcntl(file, FcntlArg::F_SETFL(flags | OFlag::O_DIRECT)) {
        Ok(_) => {}
        Err(Errno::EINVAL) => return Err(DeviceError::DirectIo { path: path.into() }),
        Err(errno) => return Err(failed(errno)),
    }
    fcntl(file, FcntlArg::F_SETFL(flags))
        .map(drop)
        .map_err(failed)
}
