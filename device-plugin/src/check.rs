//! One look at the device: is it there, can it be passed on, does a guest run
//! on it. Blocks for as long as the probe does.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use coracle_kvm_probe::{ProbeError, Report, probe};
use nix::sys::stat::{major, minor};
use serde::Serialize;

use coracle_api::names::RESOURCE_KVM;

use crate::config::{Config, Grant};
use crate::grant::{self, GrantError};
use crate::host::char_device;
use crate::node::Node;
use crate::resource::KVM_DEVICE;

/// The plugin's own node of it, and what containers have in `/dev`.
pub(crate) const KVM_NODE: &str = "kvm";

/// Why the device is unhealthy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// It cannot be looked at.
    #[error("failed to look at {}", path.display())]
    Look {
        /// The device.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is not a character device", path.display())]
    NotADevice {
        /// What is there.
        path: PathBuf,
    },
    /// It cannot be passed on.
    #[error("it cannot be passed on")]
    Grant(#[from] GrantError),
    /// No guest runs on it.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

impl CheckError {
    /// Whether the device is there and can be passed on, and only this process
    /// may not open it: a container without a device cannot, with whatever
    /// privileges of ours.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(
            self,
            Self::Probe(ProbeError::NotGiven { .. } | ProbeError::Denied { .. })
        )
    }
}

/// A device's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Which driver.
    pub major: u64,
    /// Which of its devices.
    pub minor: u64,
}

/// Checks the device, and makes what a container needs to get it.
pub(crate) fn check(config: &Config) -> Result<Report, CheckError> {
    let nodes = [kvm_node(numbers(&config.kvm_device())?)];
    match &config.grant {
        Grant::Node { dir } => grant::place(dir, &nodes)?,
        Grant::Cdi { dir } => grant::specify(dir, RESOURCE_KVM, &[(KVM_DEVICE, &nodes)])?,
    }
    Ok(probe(&config.kvm_device(), config.level)?)
}

/// What a container gets, if the device is there.
pub(crate) fn node(config: &Config) -> Option<Node> {
    char_device(&config.kvm_device()).map(kvm_node)
}

fn kvm_node(rdev: u64) -> Node {
    Node::alike("", KVM_NODE, rdev)
}

/// The device's numbers, if it is there.
pub(crate) fn numbers(device: &Path) -> Result<u64, CheckError> {
    let path = || device.to_owned();
    match fs::metadata(device) {
        Ok(there) if there.file_type().is_char_device() => Ok(there.rdev()),
        Ok(_) => Err(CheckError::NotADevice { path: path() }),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            Err(ProbeError::Missing { device: path() }.into())
        }
        Err(source) => Err(CheckError::Look {
            path: path(),
            source,
        }),
    }
}

impl From<u64> for Checked {
    fn from(rdev: u64) -> Self {
        Self {
            major: major(rdev),
            minor: minor(rdev),
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_device_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = numbers(dir.path()).expect_err("a directory");
        assert!(matches!(error, CheckError::NotADevice { .. }), "{error}");
        let error = numbers(&dir.path().join("kvm")).expect_err("absent");
        assert!(
            matches!(error, CheckError::Probe(ProbeError::Missing { .. })),
            "{error}"
        );
        let file = dir.path().join("file");
        fs::write(&file, "").expect("writes");
        let error = numbers(&file.join("kvm")).expect_err("under a file");
        assert!(matches!(error, CheckError::Look { .. }), "{error}");
        assert!(
            chain(&error).contains("Not a directory"),
            "{}",
            chain(&error)
        );
        assert_eq!(
            Checked::from(numbers(Path::new("/dev/null")).expect("a device")),
            Checked { major: 1, minor: 3 }
        );
    }
}
