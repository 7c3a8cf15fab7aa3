//! What can go wrong, and the code of each on the wire (CSI 1.x, "Error
//! Scheme" and the tables of each call).

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use tonic::{Code, Status};

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CsiError {
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("{what} is not supported")]
    Unsupported { what: String },
    #[error("a size of {wanted} bytes is wanted, and at most {limit} are allowed")]
    OutOfRange { wanted: u64, limit: u64 },
    #[error("{wanted} bytes are wanted, and {free} are left")]
    Exhausted { wanted: u64, free: u64 },
    #[error("a volume on another node is wanted, and this is {node}")]
    Elsewhere { node: String },
    #[error("there is no {kind} {id:?}")]
    NotFound { kind: &'static str, id: String },
    #[error("the volume is not at {}", path.display())]
    NotThere { path: PathBuf },
    #[error("{name:?} exists already and is something else: {difference}")]
    Exists { name: String, difference: String },
    #[error("the token {token:?} was not given out here")]
    Token { token: String },
    #[error("the volume {id} is in use: {devices:?}")]
    InUse { id: String, devices: Vec<PathBuf> },
    #[error("the volume {id} is not staged")]
    NotStaged { id: String },
    #[error("failed to {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the facts in {} cannot be read", path.display())]
    Facts {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{program} failed: {said}")]
    Program { program: String, said: String },
}

impl CsiError {
    pub(crate) fn volume(id: &str) -> Self {
        Self::NotFound {
            kind: "volume",
            id: id.to_owned(),
        }
    }

    pub(crate) fn snapshot(id: &str) -> Self {
        Self::NotFound {
            kind: "snapshot",
            id: id.to_owned(),
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Missing { .. } | Self::Unsupported { .. } => Code::InvalidArgument,
            Self::OutOfRange { .. } => Code::OutOfRange,
            Self::Exhausted { .. } | Self::Elsewhere { .. } => Code::ResourceExhausted,
            Self::NotFound { .. } | Self::NotThere { .. } => Code::NotFound,
            Self::Exists { .. } => Code::AlreadyExists,
            Self::Token { .. } => Code::Aborted,
            Self::InUse { .. } | Self::NotStaged { .. } => Code::FailedPrecondition,
            Self::Io { .. } | Self::Facts { .. } | Self::Program { .. } => Code::Internal,
        }
    }
}

impl From<CsiError> for Status {
    fn from(error: CsiError) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(because) = cause {
            text = format!("{text}: {because}");
            cause = because.source();
        }
        Self::new(error.code(), text)
    }
}

/// For `map_err`: what was to be done with which file.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CsiError {
    let path = path.to_path_buf();
    move |source| CsiError::Io {
        action,
        path,
        source,
    }
}

/// A field that a request must have.
pub(crate) fn required<'a>(field: &'static str, value: &'a str) -> Result<&'a str, CsiError> {
    if value.is_empty() {
        return Err(CsiError::Missing { field });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_reaches_the_caller() {
        let path = Path::new("/nowhere/disk");
        let error = io("open", path)(io::Error::from(io::ErrorKind::NotFound));
        let status = Status::from(error);
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(
            status.message(),
            "failed to open /nowhere/disk: entity not found"
        );
    }

    #[test]
    fn an_empty_field_is_an_invalid_argument() {
        let status = Status::from(required("volume_id", "").expect_err("it is empty"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "volume_id is missing");
    }
}
