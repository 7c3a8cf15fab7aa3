//! Why an image does not get onto a disk, and whether trying again helps.

use std::{io, path::PathBuf};

use coracle_api::report::TerminationReason;

use super::{fetch::FetchError, qcow2::Qcow2Error};
use crate::device::DeviceError;

/// Why an import or an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source's name says nothing that can be opened.
    #[error("{text:?} is not a source: {why}")]
    Source {
        /// What was given, without credentials.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The checksum's text is wrong.
    #[error("{text:?} is not a checksum: write sha256: and 64 hexadecimal digits")]
    ChecksumText {
        /// What was given.
        text: String,
    },
    /// A local source cannot be opened.
    #[error("failed to open the source {}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The source is something that is not read.
    #[error("{what} images are not read: convert it with qemu-img convert -O qcow2")]
    Format {
        /// The format's name.
        what: &'static str,
    },
    /// There is nothing in the source.
    #[error("the source is empty")]
    EmptySource,
    /// What was compressed is compressed once more.
    #[error("the source is compressed twice: unpack it once")]
    CompressedTwice,
    /// A qcow2 image that is not read.
    #[error("the qcow2 image cannot be used")]
    Qcow2 {
        /// Why.
        #[from]
        source: Qcow2Error,
    },
    /// A qcow2 image on standard input whose tables come too late.
    #[error(
        "the qcow2 image has its tables behind its data, and standard input cannot be read twice: \
         give the file's path instead of -, or rewrite it with qemu-img convert -O qcow2"
    )]
    Order,
    /// The target has less room than the image needs.
    #[error(
        "{target} has {have} bytes and the image needs {need}: give the claim at least {need} bytes"
    )]
    TooSmall {
        /// The target.
        target: String,
        /// Its size.
        have: u64,
        /// The image's size; more when the source does not tell.
        need: u64,
    },
    /// The target is in use as a disk already.
    #[error(
        "{target} already holds data ({found}): nothing was written; empty it, or say --overwrite"
    )]
    NotEmpty {
        /// The target.
        target: String,
        /// What was seen.
        found: String,
    },
    /// Source and target are one.
    #[error("{target} is the source and the target")]
    Same {
        /// The target.
        target: String,
    },
    /// What came is not what was promised.
    #[error("the source's SHA-256 is {found} and {expected} was expected: the disk is not used")]
    Checksum {
        /// What the caller expected, in hexadecimal.
        expected: String,
        /// What was read.
        found: String,
    },
    /// A source that was read twice was not the same twice.
    #[error("the source changed while it was read")]
    Changed,
    /// The source cannot be read on.
    #[error("failed to read the source")]
    Read {
        /// The cause.
        source: io::Error,
    },
    /// The source's server refuses or fails.
    #[error(transparent)]
    Fetch {
        /// Why.
        #[from]
        source: FetchError,
    },
    /// The target cannot be opened as a disk.
    #[error(transparent)]
    Device {
        /// Why.
        #[from]
        source: DeviceError,
    },
    /// The target fails.
    #[error("failed to {doing} {target}")]
    Target {
        /// The target.
        target: String,
        /// What was being done.
        doing: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A file is to be made, and nothing says how large.
    #[error("{target} is not there, and the source does not tell its size: say --size")]
    NoSize {
        /// The target.
        target: String,
    },
    /// A thread of this program ended early.
    #[error("a writer ended early")]
    Worker,
}

impl ImportError {
    /// The reason for the termination message; its exit code says whether
    /// trying again helps.
    #[must_use]
    pub fn reason(&self) -> TerminationReason {
        match self {
            Self::Source { .. }
            | Self::ChecksumText { .. }
            | Self::Format { .. }
            | Self::EmptySource
            | Self::CompressedTwice
            | Self::Qcow2 { .. }
            | Self::Order
            | Self::TooSmall { .. }
            | Self::Same { .. }
            | Self::NoSize { .. }
            | Self::Checksum { .. } => TerminationReason::ImportRefused,
            Self::NotEmpty { .. } => TerminationReason::DiskNotEmpty,
            Self::Changed | Self::Worker => TerminationReason::ImportFailed,
            Self::Fetch { source } => fetch_reason(source),
            Self::Read { source } => match source.get_ref().and_then(|e| e.downcast_ref()) {
                Some(fetch) => fetch_reason(fetch),
                None => read_reason(source),
            },
            Self::Open { source, .. } => read_reason(source),
            Self::Device { source } => source.reason(),
            Self::Target { .. } => TerminationReason::HostFailed,
        }
    }
}

impl From<io::Error> for ImportError {
    fn from(source: io::Error) -> Self {
        Self::Read { source }
    }
}

fn fetch_reason(error: &FetchError) -> TerminationReason {
    if error.permanent() {
        TerminationReason::ImportRefused
    } else {
        TerminationReason::ImportFailed
    }
}

/// A source that ends early or is no archive stays that way.
fn read_reason(error: &io::Error) -> TerminationReason {
    match error.kind() {
        io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::NotFound => TerminationReason::ImportRefused,
        _ => TerminationReason::HostFailed,
    }
}
