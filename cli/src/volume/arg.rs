//! `--volume CLAIM=PATH`.

use std::path::PathBuf;
use std::str::FromStr;

/// `CLAIM=PATH` of the command line: what plays a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeArg {
    /// Name of the `PersistentVolumeClaim`.
    pub claim: String,
    /// A block device, an image file or a directory.
    pub path: PathBuf,
}

/// Why a `CLAIM=PATH` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeArgError {
    /// There is no equals sign.
    #[error("{text:?} is not CLAIM=PATH; write, say, web-root=/dev/vg0/web")]
    NoPath {
        /// What was given.
        text: String,
    },
    /// The path is empty.
    #[error("no path after {claim:?}=; name a block device, an image file or a directory")]
    EmptyPath {
        /// The claim.
        claim: String,
    },
    /// What is before the equals sign cannot be a claim's name.
    #[error(
        "{claim:?} cannot be the name of a claim: lower-case letters, digits, '-' and '.' only, \
         beginning and ending with a letter or digit"
    )]
    ClaimName {
        /// What was given.
        claim: String,
    },
}

impl FromStr for VolumeArg {
    type Err = VolumeArgError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (claim, path) = text
            .split_once('=')
            .ok_or_else(|| VolumeArgError::NoPath { text: text.into() })?;
        if !is_object_name(claim) {
            return Err(VolumeArgError::ClaimName {
                claim: claim.into(),
            });
        }
        if path.is_empty() {
            return Err(VolumeArgError::EmptyPath {
                claim: claim.into(),
            });
        }
        Ok(Self {
            claim: claim.into(),
            path: path.into(),
        })
    }
}

/// Whether the text is a DNS subdomain (RFC 1123), as Kubernetes wants the
/// names of most objects. Such a name is also safe as a file name.
pub(crate) fn is_object_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}
