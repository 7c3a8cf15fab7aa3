//! Why a VM was not started: everything that can be found out before qemu
//! runs, as one type.
//!
//! A refusal carries facts and the error that caused it, nothing to decide
//! later: its reason fixes the exit code, its message is what the kubelet
//! shows. It never stands for something that went wrong after qemu started.
//! Implements design §5 (exit codes, termination message) and §8.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use coracle_api::machine::MachineError;
use coracle_api::report::{TerminationMessage, TerminationReason};

use crate::prepare::{DeviceError, DiskError, KvmError, MemoryError, Problem};

/// Why a VM was not started.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The machine description is not where it should be.
    #[error(
        "{} cannot be read: the pod needs the volume that shows its annotation `{}` there",
        path.display(),
        coracle_api::names::ANNOTATION_MACHINE
    )]
    Unreadable {
        /// Path of the description.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The machine description is malformed or of another version.
    #[error("{} is refused", path.display())]
    Description {
        /// Path of the description.
        path: PathBuf,
        /// What is wrong with it.
        source: MachineError,
    },
    /// The machine description reads well and asks for the impossible.
    #[error("{}", sentences(problems))]
    Impossible {
        /// Everything that is wrong, in the description's order.
        problems: Vec<Problem>,
    },
    /// A disk cannot be had.
    #[error("disk \"{disk}\" cannot be used")]
    Disk {
        /// Name of the disk.
        disk: String,
        /// Why not.
        source: DiskError,
    },
    /// A file of a direct kernel boot is there but cannot be read.
    #[error("the {what} {} cannot be read by this user", path.display())]
    Boot {
        /// `kernel` or `initrd`.
        what: &'static str,
        /// Its path in the pod.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// `accelerator: Kvm`, and KVM cannot do it.
    #[error("the accelerator is Kvm, and there is no fallback from it")]
    Kvm {
        /// What is missing.
        source: KvmError,
    },
    /// A device of the node cannot be had.
    #[error("device {device:?} ({resource}) cannot be used")]
    Device {
        /// Name of the device.
        device: String,
        /// Its resource.
        resource: String,
        /// Why not.
        source: Box<DeviceError>,
    },
    /// There is not enough memory for the guest.
    #[error("the guest's memory cannot be had")]
    Memory {
        /// What there is.
        source: MemoryError,
    },
}

impl Refusal {
    /// The reason for the termination message; it fixes the exit code.
    #[must_use]
    pub fn reason(&self) -> TerminationReason {
        match self {
            Self::Description {
                source: MachineError::Version { .. },
                ..
            } => TerminationReason::UnsupportedVersion,
            Self::Unreadable { .. } | Self::Description { .. } | Self::Impossible { .. } => {
                TerminationReason::InvalidMachine
            }
            Self::Disk { source, .. } => source.reason(),
            Self::Device { source, .. } => source.reason(),
            Self::Boot { .. } => TerminationReason::HostFailed,
            Self::Kvm { .. } => TerminationReason::KvmUnavailable,
            Self::Memory { .. } => TerminationReason::MemoryUnavailable,
        }
    }

    /// The disk it is about.
    #[must_use]
    pub fn disk(&self) -> Option<&str> {
        match self {
            Self::Disk { disk, .. } => Some(disk),
            Self::Impossible { problems } => problems.iter().find_map(Problem::disk),
            Self::Unreadable { .. }
            | Self::Description { .. }
            | Self::Boot { .. }
            | Self::Device { .. }
            | Self::Kvm { .. }
            | Self::Memory { .. } => None,
        }
    }

    /// The whole chain of causes as one text, outermost first.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let fact = error.to_string();
            // Some libraries repeat their cause in their own text.
            if !text.ends_with(&fact) {
                text.push_str(": ");
                text.push_str(&fact);
            }
            cause = error.source();
        }
        text
    }

    /// What the kubelet gets to read.
    #[must_use]
    pub fn to_termination(&self) -> TerminationMessage {
        TerminationMessage {
            reason: self.reason(),
            message: self.message(),
            disk: self.disk().map(str::to_owned),
        }
    }
}

fn sentences(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
