//! Why a VM ends, and how that is told.

use std::{fmt, time::Duration};

use coracle_api::report::{TerminationMessage, TerminationReason as Reason};

/// Why a VM ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest powered itself off.
    PoweredOff {
        /// Whether it was asked to.
        asked: bool,
    },
    /// qemu ended while the guest was being stopped, and did not say why.
    StoppedSilently,
    /// It was stopped before the guest had run.
    NotStarted,
    /// The guest did not power off in time.
    Deadline {
        /// How long it was given.
        grace: Duration,
    },
    /// Somebody wanted it to end at once.
    Kill,
    /// The guest's kernel panicked.
    Panic,
    /// The accelerator cannot go on with the guest.
    Accelerator,
    /// qemu did not answer on QMP.
    NoAnswer,
    /// qemu has something else open in place of this disk.
    WrongDisk(String),
    /// qemu failed in another way.
    Failed(String),
}

/// How qemu ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code or signal.
    pub code: ExitCode,
    /// The last it wrote to standard error.
    pub stderr: String,
}

/// A process's exit code or the signal that ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// It exited with this code.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
}

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            // What the kernel does at the container's memory limit.
            Self::Signal(9) => f.write_str(
                "signal 9; if nobody sent it, the container's memory limit is too small for \
                 the guest's memory and qemu's own",
            ),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

const WRONG_DISK: &str = "qemu opened something else than what was checked: another device was \
                          put in its place; delete the pod so that its volumes are mapped again";

impl End {
    /// The termination message, now that qemu is gone.
    #[must_use]
    pub fn conclude(self, exit: &Exit) -> TerminationMessage {
        let disk = match &self {
            Self::WrongDisk(disk) => Some(disk.clone()),
            _ => None,
        };
        let (reason, message) = match self {
            Self::PoweredOff { asked: false } => {
                (Reason::GuestShutdown, "the guest powered itself off".into())
            }
            Self::PoweredOff { asked: true } => (
                Reason::Stopped,
                "the guest powered off after it was asked to".into(),
            ),
            Self::StoppedSilently if exit.code == ExitCode::Code(0) => {
                (Reason::Stopped, "the VM ended after it was asked to".into())
            }
            Self::StoppedSilently => (Reason::QemuFailed, exit.describe()),
            Self::NotStarted => (
                Reason::Stopped,
                "the VM was stopped before its guest had run".into(),
            ),
            Self::Deadline { grace } => (
                Reason::Killed,
                format!(
                    "the guest did not power off within {} s and was ended: does it listen to \
                     the ACPI power button? More time is \
                     spec.terminationGracePeriodSeconds",
                    grace.as_secs()
                ),
            ),
            Self::Kill => (
                Reason::Killed,
                "the VM was ended at once, as was asked for".into(),
            ),
            Self::Panic => (
                Reason::GuestPanicked,
                "the guest's kernel panicked: its last words are in the container's log".into(),
            ),
            Self::Accelerator => (Reason::AcceleratorFailed, accelerator_message(exit)),
            Self::WrongDisk(_) => (Reason::DiskInvalid, WRONG_DISK.into()),
            Self::NoAnswer => (
                Reason::QemuFailed,
                exit.with_stderr("qemu was started and did not answer on QMP in time"),
            ),
            Self::Failed(why) => match exit.code {
                ExitCode::Code(0) => (Reason::QemuFailed, exit.with_stderr(&why)),
                // We ended it, because of this.
                ExitCode::Signal(9) if exit.stderr.is_empty() => (
                    Reason::QemuFailed,
                    format!("{why}; it ended with {}", exit.code),
                ),
                ExitCode::Code(_) | ExitCode::Signal(_) => (Reason::QemuFailed, exit.describe()),
            },
        };
        TerminationMessage {
            reason,
            message,
            disk,
        }
    }
}

fn accelerator_message(exit: &Exit) -> String {
    exit.with_stderr(
        "the accelerator cannot go on with the guest (qemu's run state is internal-error): \
         /dev/kvm on this node cannot run it; `accelerator: Emulation` can",
    )
}

impl Exit {
    fn describe(&self) -> String {
        self.with_stderr(&format!("qemu ended with {}", self.code))
    }

    fn with_stderr(&self, message: &str) -> String {
        match self.stderr.trim() {
            "" => message.to_owned(),
            stderr => format!("{message}: {stderr}"),
        }
    }
}
