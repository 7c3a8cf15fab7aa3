//! The life of a VM as a value: what state it is in, and what each thing that
//! happens does to it. No I/O, no clock, no qemu: time comes in as an
//! argument, effects go out as values.
//!
//! ```text
//!              QmpReady          Start             Done(cont)
//!   Creating ───────────▶ Created ─────▶ Starting ───────────▶ Running ◀─────────────┐
//!      │                     │  └─ wanted Paused ─▶ Paused       │ Desire(Paused)     │
//!      │                     │                       ▲           ▼                    │
//!      │                     │            Done(stop) └──────── Pausing                │
//!      │                     │                    Paused ─ Desire(Running) ─▶ Resuming┘
//!      │                     │
//!      │ Stop                │ Stop        Starting…Resuming ── Stop ──▶ Stopping
//!      ▼                     ▼                                             │ deadline
//!   ┌───────────────────────────────────────────────────────────────────┐  │
//!   │ Ending: qemu is on its way out, and it is known why               │◀─┘
//!   └───────────────────────────────────────────────────────────────────┘
//!      │ QemuExited                     any state ── Kill, Shutdown, QmpLost ──▶ Ending
//!      ▼                                any state ── QemuExited ──▶ Exited
//!   Exited
//! ```
//!
//! Invariants, each held by a property test:
//! - after `Exited` nothing happens any more;
//! - after `Stop` qemu is told to quit at the deadline at the latest, and is
//!   killed [`KILL_GRACE`] later at the latest;
//! - `quit` and the kill are each done once at most;
//! - nothing is sent over QMP before `QmpReady`.

use std::time::{Duration, Instant};

use coracle_api::{
    report::{Status, TerminationMessage},
    types::DesiredState,
};

use crate::qmp::{Command, RunStatus, ShutdownCause};

mod end;
mod request;
mod step;

pub use end::{End, Exit, ExitCode};
pub use request::{Request, Verdict};

/// How long qemu may take to end after `quit`, before it is killed. The pod's
/// grace period is 5 s longer than the guest's; this leaves most of that to
/// the rest.
pub const KILL_GRACE: Duration = Duration::from_secs(2);

/// How long qemu may take to end by itself after the guest has powered off: it
/// writes out what it holds of the disks then.
pub const EXIT_GRACE: Duration = Duration::from_secs(10);

/// When the power button is pressed again, counted from the time before. A
/// guest that is still booting does not see the first press: ACPI loses it
/// until the guest's kernel has enabled the button.
pub const PRESS_AGAIN: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(10)];

/// A VM's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vm {
    /// qemu was started and has not answered on QMP yet.
    Creating {
        /// When it must have.
        deadline: Instant,
        /// Whether the guest is to run as soon as it can.
        start: bool,
        /// Whether it is to be paused then.
        wanted: DesiredState,
    },
    /// qemu is ready, the virtual CPUs have not run yet.
    Created {
        /// Whether the guest is to run or to be paused once it is started.
        wanted: DesiredState,
    },
    /// `cont` was sent for the first time.
    Starting,
    /// The guest runs.
    Running,
    /// `stop` was sent.
    Pausing,
    /// The virtual CPUs are stopped.
    Paused {
        /// Why.
        cause: PauseCause,
    },
    /// `cont` was sent to a paused VM.
    Resuming,
    /// The guest was asked to power off.
    Stopping {
        /// When qemu is told to quit instead.
        deadline: Instant,
        /// How long the guest was given.
        grace: Duration,
        /// When the power button is pressed again.
        press: Option<Instant>,
        /// How often it has been pressed again.
        pressed: usize,
    },
    /// qemu is on its way out.
    Ending {
        /// Why the VM ends.
        end: End,
        /// When qemu is killed, or `None` when it has been.
        deadline: Option<Instant>,
    },
    /// qemu is gone.
    Exited(TerminationMessage),
}

/// Why the virtual CPUs are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseCause {
    /// Somebody wanted it.
    Asked,
    /// A disk returned an error.
    DiskError,
}

/// Something that happens to a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// qemu has answered on QMP.
    QmpReady,
    /// QMP cannot be used any more, for this reason.
    QmpLost(String),
    /// The guest is to be started.
    Start,
    /// The guest is to run or to be paused.
    Desire(DesiredState),
    /// The guest is to power off.
    Stop {
        /// How long it may take.
        grace: Duration,
    },
    /// The VM is to end at once.
    Kill,
    /// Time has passed.
    Tick,
    /// A command has succeeded.
    Done(Command),
    /// A command has failed.
    Failed(Command, String),
    /// The reply to `query-status`.
    Status(RunStatus),
    /// qemu says that it ends.
    Shutdown(ShutdownCause),
    /// The guest's kernel has panicked.
    Panicked,
    /// The virtual CPUs were stopped, by us or by qemu.
    CpusStopped,
    /// The guest was reset.
    Reset,
    /// What a disk error was about may be mended: the guest can try again.
    Mended,
    /// qemu has not opened this disk, but something else in its place.
    WrongDisk(String),
    /// qemu is gone.
    QemuExited(Exit),
}

/// Something to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Send a command to qemu.
    Send(Command),
    /// Kill qemu with SIGKILL.
    Kill,
}

impl Vm {
    /// A VM whose qemu was just started and must answer until `deadline`.
    #[must_use]
    pub fn new(deadline: Instant, wanted: DesiredState) -> Self {
        Self::Creating {
            deadline,
            start: false,
            wanted,
        }
    }

    /// The state as it is reported. OCI has no word for a VM that is being
    /// stopped: it is `running` until it is not.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Creating { .. } => Status::Creating,
            Self::Created { .. } | Self::Starting => Status::Created,
            Self::Running | Self::Pausing | Self::Stopping { .. } | Self::Ending { .. } => {
                Status::Running
            }
            Self::Paused { .. } | Self::Resuming => Status::Paused,
            Self::Exited(_) => Status::Stopped,
        }
    }

    /// The state's name, for the log.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Creating { .. } => "creating",
            Self::Created { .. } => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Pausing => "pausing",
            Self::Paused {
                cause: PauseCause::Asked,
            } => "paused",
            Self::Paused {
                cause: PauseCause::DiskError,
            } => "paused by a disk error",
            Self::Resuming => "resuming",
            Self::Stopping { .. } => "stopping",
            Self::Ending { .. } => "ending",
            Self::Exited(_) => "exited",
        }
    }

    /// When [`Input::Tick`] must come next, if nothing else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Creating { deadline, .. } => Some(*deadline),
            Self::Stopping {
                deadline, press, ..
            } => Some(press.map_or(*deadline, |press| press.min(*deadline))),
            Self::Ending { deadline, .. } => *deadline,
            Self::Created { .. }
            | Self::Starting
            | Self::Running
            | Self::Pausing
            | Self::Paused { .. }
            | Self::Resuming
            | Self::Exited(_) => None,
        }
    }

    /// Why the VM ended, once it has.
    #[must_use]
    pub fn termination(&self) -> Option<&TerminationMessage> {
        match self {
            Self::Exited(termination) => Some(termination),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
