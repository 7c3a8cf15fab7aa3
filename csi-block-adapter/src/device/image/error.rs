//! What can be wrong with a disk image in a container image, each with the way
//! to mend it and the reason that goes into the termination message.

use coracle_api::report::TerminationReason;

use crate::{device::Owner, qcow2::Qcow2Error};

/// What is wrong with a disk image in a container image. Paths are the
/// container image's.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file is not there.
    #[error("the container image has no file {file}: correct image.path")]
    NoFile {
        /// Which.
        file: String,
    },
    /// No file is there that could be meant.
    #[error("the container image has no file in /disk: say with image.path which one is the disk")]
    NoDisk,
    /// More than one could be meant.
    #[error(
        "the container image has several files in /disk ({}): say with image.path which one is the \
         disk",
        names.join(", ")
    )]
    Several {
        /// Some of them.
        names: Vec<String>,
    },
    /// The VM's user may not read it.
    #[error(
        "{file} in the container image cannot be read as uid {uid} ({owner}): let everybody read it \
         there (chmod a+r)"
    )]
    Permission {
        /// Which.
        file: String,
        /// The user.
        uid: u32,
        /// Owner, group and mode.
        owner: Owner,
    },
    /// It has no bytes.
    #[error("{file} in the container image is empty")]
    Empty {
        /// Which.
        file: String,
    },
    /// It is of a format that is not read.
    #[error(
        "{file} in the container image is a {what} image: convert it with qemu-img convert -O qcow2"
    )]
    Foreign {
        /// Which.
        file: String,
        /// The format.
        what: &'static str,
    },
    /// It is compressed as a whole.
    #[error(
        "{file} in the container image is packed with {how}, and would be the disk as it is: unpack \
         it there, or fill a claim from it (claim.from.image)"
    )]
    Packed {
        /// Which.
        file: String,
        /// With what.
        how: &'static str,
    },
    /// It is a qcow2 image that is not used.
    #[error("the qcow2 image {file} in the container image cannot be used")]
    Qcow2 {
        /// Which.
        file: String,
        /// Why.
        source: Qcow2Error,
    },
    /// The disk is to be smaller than it.
    #[error(
        "image.size is {wanted} bytes, and {file} in the container image needs {need}: take the size \
         out, or make it larger"
    )]
    Smaller {
        /// Which.
        file: String,
        /// The size that the manifest says.
        wanted: u64,
        /// The image's.
        need: u64,
    },
    /// An overlay cannot be that large.
    #[error(
        "{file} in the container image is a disk of {size} bytes, and an overlay has at most 512 TiB"
    )]
    Large {
        /// Which.
        file: String,
        /// Its size.
        size: u64,
    },
}

impl ImageError {
    /// The reason that goes into the termination message.
    #[must_use]
    pub fn reason(&self) -> TerminationReason {
        match self {
            Self::NoFile { .. } | Self::NoDisk => TerminationReason::DiskNotFound,
            Self::Permission { .. } => TerminationReason::DiskPermission,
            Self::Several { .. }
            | Self::Empty { .. }
            | Self::Foreign { .. }
            | Self::Packed { .. }
            | Self::Qcow2 { .. }
            | Self::Smaller { .. }
            | Self::Large { .. } => TerminationReason::DiskInvalid,
        }
    }
}
