//! Which requests make sense when. What is asked for and already so is told
//! from what is refused, because a caller who repeats himself is right.

use serde::{Deserialize, Serialize};

use super::{PauseCause, Vm};

/// A request that changes a VM's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Run the guest for the first time.
    Start,
    /// Stop the virtual CPUs.
    Pause,
    /// Let them run again.
    Resume,
    /// Press the power button, and quit at the deadline.
    Term,
    /// Quit.
    Kill,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It will be done.
    Proceed,
    /// It is so already, or on its way.
    Already,
    /// It cannot be done, for this reason.
    Refused(&'static str),
}

const NOT_STARTED: &str = "the guest has not been started: `coracle-shim start` does that";
const ENDING: &str = "the VM is being stopped";
const GONE: &str = "the VM has ended";

impl Vm {
    /// Judges a request against the state.
    #[must_use]
    pub fn judge(&self, request: Request) -> Verdict {
        match request {
            Request::Start => self.judge_start(),
            Request::Pause => self.judge_pause(),
            Request::Resume => self.judge_resume(),
            Request::Term => self.judge_term(),
            Request::Kill => self.judge_kill(),
        }
    }

    fn judge_start(&self) -> Verdict {
        match self {
            Self::Creating { start: false, .. } | Self::Created { .. } => Verdict::Proceed,
            Self::Creating { start: true, .. }
            | Self::Starting
            | Self::Running
            | Self::Pausing
            | Self::Paused { .. }
            | Self::Resuming => Verdict::Already,
            Self::Stopping { .. } | Self::Ending { .. } => Verdict::Refused(ENDING),
            Self::Exited(_) => Verdict::Refused(GONE),
        }
    }

    fn judge_pause(&self) -> Verdict {
        match self {
            Self::Creating { .. } | Self::Created { .. } => Verdict::Refused(NOT_STARTED),
            Self::Starting
            | Self::Running
            | Self::Resuming
            | Self::Paused {
                cause: PauseCause::DiskError,
            } => Verdict::Proceed,
            Self::Pausing
            | Self::Paused {
                cause: PauseCause::Asked,
            } => Verdict::Already,
            Self::Stopping { .. } | Self::Ending { .. } => Verdict::Refused(ENDING),
            Self::Exited(_) => Verdict::Refused(GONE),
        }
    }

    fn judge_resume(&self) -> Verdict {
        match self {
            Self::Creating { .. } | Self::Created { .. } => Verdict::Refused(NOT_STARTED),
            Self::Pausing | Self::Paused { .. } => Verdict::Proceed,
            Self::Starting | Self::Running | Self::Resuming => Verdict::Already,
            Self::Stopping { .. } | Self::Ending { .. } => Verdict::Refused(ENDING),
            Self::Exited(_) => Verdict::Refused(GONE),
        }
    }

    fn judge_term(&self) -> Verdict {
        match self {
            Self::Creating { .. }
            | Self::Created { .. }
            | Self::Starting
            | Self::Running
            | Self::Pausing
            | Self::Paused { .. }
            | Self::Resuming => Verdict::Proceed,
            Self::Stopping { .. } | Self::Ending { .. } | Self::Exited(_) => Verdict::Already,
        }
    }

    fn judge_kill(&self) -> Verdict {
        match self {
            Self::Creating { .. }
            | Self::Created { .. }
            | Self::Starting
            | Self::Running
            | Self::Pausing
            | Self::Paused { .. }
            | Self::Resuming
            | Self::Stopping { .. }
            | Self::Ending {
                deadline: Some(_), ..
            } => Verdict::Proceed,
            Self::Ending { deadline: None, .. } | Self::Exited(_) => Verdict::Already,
        }
    }

    /// Whether a request that was not refused has come true.
    #[must_use]
    pub fn has_met(&self, request: Request) -> bool {
        match request {
            // A guest that is to be paused from the first is paused then.
            Request::Start => matches!(self, Self::Running | Self::Paused { .. }),
            Request::Pause => matches!(self, Self::Paused { .. }),
            Request::Resume => matches!(self, Self::Running),
            // As with a container runtime, `kill` does not wait.
            Request::Term | Request::Kill => true,
        }
    }
}
