//! Why a KVM cannot run a guest, in words for the admin of the node.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A text that names no [`Level`](crate::Level).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a probe level: open, run or kernel")]
pub struct UnknownLevel {
    /// The text.
    pub text: String,
}

/// Why a probe did not pass.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// There is no such device.
    #[error(
        "{} is not there: load the module kvm_intel or kvm_amd, and switch virtualization on in \
         the firmware or, in a VM, nested virtualization on its host",
        device.display()
    )]
    Missing {
        /// The device.
        device: PathBuf,
    },
    /// The device's owner and mode keep the caller out.
    #[error("{} may not be opened for reading and writing as uid {uid}", device.display())]
    Denied {
        /// The device.
        device: PathBuf,
        /// Who tried.
        uid: u32,
        /// The cause.
        source: io::Error,
    },
    /// The device cgroup keeps the container out.
    #[error(
        "this container was not given {}: request coracle.dev/kvm for it",
        device.display()
    )]
    NotGiven {
        /// The device.
        device: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The device cannot be opened for another reason.
    #[error("failed to open {}", device.display())]
    Open {
        /// The device.
        device: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// What is there is not KVM, or not of the one stable version.
    #[error("{} does not speak the KVM interface version 12 (it says {found})", device.display())]
    NotKvm {
        /// The device.
        device: PathBuf,
        /// What it says; negative for "not at all".
        found: i32,
    },
    /// KVM opens and makes no VM.
    #[error("KVM makes no virtual machine (another hypervisor may hold the processor)")]
    NoVm {
        /// The cause.
        source: io::Error,
    },
    /// A virtual CPU cannot be prepared.
    #[error("KVM refused to {step}")]
    Setup {
        /// What was refused.
        step: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The virtual CPU stopped in a way that it must not.
    #[error("the virtual CPU stopped with {exit} while it ran {code}")]
    Stopped {
        /// How.
        exit: String,
        /// What it ran.
        code: &'static str,
    },
    /// This KVM interprets kernel mode, and does not know an instruction.
    #[error(
        "this KVM cannot run {code}: it interprets kernel mode and does not know the \
         instruction, so no operating system boots on it"
    )]
    NotEmulated {
        /// The instruction.
        code: &'static str,
    },
    /// This KVM is too slow to be one.
    #[error(
        "this KVM runs kernel mode at {} million instructions per second, so it interprets it, \
         and an operating system would not come up: {instructions} instructions took {} ms of \
         processor time, {} ms are allowed",
        millions(*instructions, *took), took.as_millis(), limit.as_millis()
    )]
    Slow {
        /// How many instructions were run.
        instructions: u64,
        /// How much processor time they took.
        took: Duration,
        /// How much they may take.
        limit: Duration,
    },
    /// The virtual CPU did not come back.
    #[error("the virtual CPU did not get through {code} within {} ms", limit.as_millis())]
    Hung {
        /// What it ran.
        code: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// KVM itself did not come back.
    #[error("KVM did not answer within {} ms", limit.as_millis())]
    Stuck {
        /// How long it had.
        limit: Duration,
    },
    /// The probe's own thread could not be started.
    #[error("failed to start the probe's thread")]
    Thread {
        /// The cause.
        source: io::Error,
    },
}

fn millions(instructions: u64, took: Duration) -> String {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a figure for people, of one digit"
    )]
    let rate = instructions as f64 / took.as_secs_f64().max(1e-9) / 1e6;
    format!("{rate:.1}")
}
