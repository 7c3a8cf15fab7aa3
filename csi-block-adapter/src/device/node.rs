//! Looking at a path without opening it, and turning a failed `open` into the
//! error that says why.

use std::{fs, io, os::unix::fs::FileTypeExt, os::unix::fs::MetadataExt};

use nix::{
    errno::Errno,
    sys::stat::{major, minor},
    unistd::{Gid, Group, Uid, User, geteuid},
};

use super::error::{Access, DeviceError, NodeKind, Owner};

/// What `lstat` says.
pub(super) struct Node {
    pub(super) kind: NodeKind,
    /// Device and inode, by which an opened file is known to be the same.
    pub(super) identity: (u64, u64),
    /// Major and minor number, of a device node.
    pub(super) number: (u64, u64),
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Node {
    fn new(metadata: &fs::Metadata) -> Self {
        Self {
            kind: kind(metadata.file_type()),
            identity: (metadata.dev(), metadata.ino()),
            number: (major(metadata.rdev()), minor(metadata.rdev())),
            uid: metadata.uid(),
            gid: metadata.gid(),
            mode: metadata.mode() & 0o7777,
        }
    }

    fn owner(&self) -> Owner {
        let user = User::from_uid(Uid::from_raw(self.uid)).ok().flatten();
        let group = Group::from_gid(Gid::from_raw(self.gid)).ok().flatten();
        Owner {
            user: user.map_or_else(|| self.uid.to_string(), |user| user.name),
            group: group.map_or_else(|| self.gid.to_string(), |group| group.name),
            mode: self.mode,
        }
    }
}

/// Looks at what is at `path`; `None` when nothing is.
pub(super) fn look(path: &str) -> Result<Option<Node>, DeviceError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(Node::new(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DeviceError::Io {
            path: path.into(),
            doing: "look at",
            source,
        }),
    }
}

/// Makes sure that what was opened is what was looked at.
pub(super) fn verify(path: &str, node: &Node, file: &fs::File) -> Result<(), DeviceError> {
    let metadata = file.metadata().map_err(|source| DeviceError::Io {
        path: path.into(),
        doing: "look at",
        source,
    })?;
    if Node::new(&metadata).identity == node.identity {
        return Ok(());
    }
    Err(DeviceError::Io {
        path: path.into(),
        doing: "open",
        source: io::Error::other("it was replaced while it was being opened"),
    })
}

/// The error for what is at `path` and should not be.
pub(super) fn wrong_kind(path: &str, wanted: &'static str, found: NodeKind) -> DeviceError {
    match found {
        NodeKind::Symlink => DeviceError::Symlink { path: path.into() },
        found => DeviceError::WrongKind {
            path: path.into(),
            wanted,
            found,
        },
    }
}

/// The error for an `open` that failed, where the errno alone tells.
pub(super) fn refused(path: &str, node: &Node, access: Access, error: io::Error) -> DeviceError {
    let path = path.to_owned();
    let device = node.kind == NodeKind::Block;
    let (major, minor) = node.number;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EBUSY) => DeviceError::Busy {
            path,
            holders: vec![],
        },
        Some(Errno::EROFS) => DeviceError::ReadOnly { path },
        Some(Errno::ENXIO | Errno::ENODEV) if device => DeviceError::Gone { path, major, minor },
        Some(Errno::EPERM) if device => DeviceError::DeviceCgroup {
            path,
            access,
            major,
            minor,
        },
        Some(Errno::EACCES) => DeviceError::Permission {
            path,
            access,
            uid: geteuid().as_raw(),
            owner: node.owner(),
            device,
        },
        _ => DeviceError::Io {
            path,
            doing: "open",
            source: error,
        },
    }
}

fn kind(file_type: fs::FileType) -> NodeKind {
    if file_type.is_block_device() {
        NodeKind::Block
    } else if file_type.is_file() {
        NodeKind::Regular
    } else if file_type.is_dir() {
        NodeKind::Directory
    } else if file_type.is_symlink() {
        NodeKind::Symlink
    } else if file_type.is_char_device() {
        NodeKind::Character
    } else if file_type.is_fifo() {
        NodeKind::Fifo
    } else if file_type.is_socket() {
        NodeKind::Socket
    } else {
        NodeKind::Unknown
    }
}
