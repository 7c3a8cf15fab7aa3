//! What can be wrong with a disk's device or file, each with the way to mend
//! it and the reason that goes into the termination message.

use std::{fmt, io, path::PathBuf};

use coracle_api::report::TerminationReason;

use super::{holder::Holder, image::ImageError};
use crate::qemu::{Impossible, NotLun};

/// What a disk is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "reading",
            Self::Write => "writing",
        })
    }
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A block device.
    Block,
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A named pipe.
    Fifo,
    /// A unix socket.
    Socket,
    /// None of these.
    Unknown,
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "a block device",
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Character => "a character device",
            Self::Fifo => "a named pipe",
            Self::Socket => "a socket",
            Self::Unknown => "of an unknown kind",
        })
    }
}

/// Owner, group and mode of a node, as `ls -l` has them: `root:disk 0660`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Name of the owner, or its number.
    pub user: String,
    /// Name of the group, or its number.
    pub group: String,
    /// The permission bits.
    pub mode: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {:04o}", self.user, self.group, self.mode)
    }
}

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// There is no node at a device's path.
    #[error("{path} does not exist: the claim's volume was not given to the pod")]
    NoDevice {
        /// The path.
        path: String,
    },
    /// There is no file at an image's path, and none is to be created.
    #[error(
        "{path} does not exist: put a raw image of that name on the claim, or let the disk be \
         writable, so that an empty image is created"
    )]
    NoFile {
        /// The path.
        path: String,
    },
    /// The node is there, and no device behind it.
    #[error(
        "{path} leads to no device ({major}:{minor}): the volume was detached from the node, \
         delete the pod so that it is attached again"
    )]
    Gone {
        /// The path.
        path: String,
        /// Major number of the node.
        major: u64,
        /// Minor number of the node.
        minor: u64,
    },
    /// The path is a symbolic link.
    #[error("{path} is a symbolic link, which is never followed: put the disk itself there")]
    Symlink {
        /// The path.
        path: String,
    },
    /// Something else is at the path.
    #[error("{path} is {found}, not {wanted}")]
    WrongKind {
        /// The path.
        path: String,
        /// What is wanted.
        wanted: &'static str,
        /// What is there.
        found: NodeKind,
    },
    /// Another disk is behind the node than before.
    #[error(
        "{path} is not the disk it was: another one was attached under the same numbers; delete \
         the pod so that its volumes are mapped again"
    )]
    Changed {
        /// The path.
        path: String,
    },
    /// The disk is to be passed through as a SCSI logical unit, and is none.
    #[error("{path} cannot be passed through as a SCSI logical unit: {source}")]
    NotLun {
        /// The path.
        path: String,
        /// Why not.
        source: NotLun,
    },
    /// The path is not UTF-8, and qemu's JSON options are.
    #[error("{} is not UTF-8, and so cannot be named to qemu", path.display())]
    NotText {
        /// The path.
        path: PathBuf,
    },
    /// The disk is in use.
    #[error("{path} is in use: {}", name_holders(holders))]
    Busy {
        /// The path.
        path: String,
        /// Who has it, where that can be seen from here.
        holders: Vec<Holder>,
    },
    /// Owner, group and mode do not let this user open it.
    #[error("{path} cannot be opened for {access} as uid {uid} ({owner}): {}", mend_owner(*device))]
    Permission {
        /// The path.
        path: String,
        /// What it was to be opened for.
        access: Access,
        /// The user that tried.
        uid: u32,
        /// Owner, group and mode.
        owner: Owner,
        /// Whether it is a block device.
        device: bool,
    },
    /// The container's device cgroup does not have the device.
    #[error(
        "{path} ({major}:{minor}) cannot be opened for {access}: the device cgroup of this \
         container does not allow it; the claim must be in volumeDevices of this very container, \
         and not read-only where the disk is writable"
    )]
    DeviceCgroup {
        /// The path.
        path: String,
        /// What it was to be opened for.
        access: Access,
        /// Major number of the device.
        major: u64,
        /// Minor number of the device.
        minor: u64,
    },
    /// The device or its file system is read-only, and the disk is writable.
    #[error("{path} is read-only, and the VM is to write to it: set readOnly: true on the disk")]
    ReadOnly {
        /// The path.
        path: String,
    },
    /// The device or file has no bytes.
    #[error("{path} has size 0: there is no volume behind it")]
    Empty {
        /// The path.
        path: String,
    },
    /// The size is not a whole number of sectors.
    #[error("{path} has {bytes} bytes, which is not a multiple of 512: it is not a raw disk image")]
    Size {
        /// The path.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// The file system cannot do direct I/O.
    #[error("the file system of {path} has no direct I/O: set cache: Writeback on the disk")]
    DirectIo {
        /// The path.
        path: String,
    },
    /// A cloud-init disk has no device of its own.
    #[error("disk {disk:?} is made from cloud-init data and has no device to open")]
    CloudInit {
        /// Name of the disk.
        disk: String,
    },
    /// The disk asks for what qemu does not have.
    #[error("the disk asks for the impossible")]
    Impossible {
        /// What does not go together.
        source: Impossible,
    },
    /// The disk's container image has no disk that can be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A system call failed for another reason.
    #[error("failed to {doing} {path}")]
    Io {
        /// The path.
        path: String,
        /// What was being done.
        doing: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

impl DeviceError {
    /// The reason that goes into the termination message.
    #[must_use]
    pub fn reason(&self) -> TerminationReason {
        match self {
            Self::NoDevice { .. } | Self::NoFile { .. } | Self::Gone { .. } => {
                TerminationReason::DiskNotFound
            }
            Self::Symlink { .. }
            | Self::WrongKind { .. }
            | Self::Changed { .. }
            | Self::NotLun { .. }
            | Self::NotText { .. }
            | Self::Empty { .. }
            | Self::Size { .. } => TerminationReason::DiskInvalid,
            Self::Busy { .. } => TerminationReason::DiskBusy,
            Self::Permission { .. } | Self::DeviceCgroup { .. } => {
                TerminationReason::DiskPermission
            }
            Self::ReadOnly { .. } => TerminationReason::DiskReadOnly,
            Self::DirectIo { .. } | Self::Impossible { .. } => TerminationReason::InvalidMachine,
            Self::CloudInit { .. } => TerminationReason::HostFailed,
            Self::Image(error) => error.reason(),
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => TerminationReason::DiskNotFound,
                io::ErrorKind::PermissionDenied => TerminationReason::DiskPermission,
                _ => TerminationReason::HostFailed,
            },
        }
    }
}

fn name_holders(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return "mounted on the node, or held by another VM".into();
    }
    holders
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn mend_owner(device: bool) -> &'static str {
    if device {
        "add the device's group to spec.podSecurity.supplementalGroups, or set \
         device_ownership_from_security_context = true in the container runtime"
    } else {
        "let the group of the pod's fsGroup read and write it"
    }
}
