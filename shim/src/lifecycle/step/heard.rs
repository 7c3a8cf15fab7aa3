//! What is heard from qemu and of it, and what that does in each state.

use std::time::Instant;

use super::super::{
    EXIT_GRACE, End, Exit, KILL_GRACE, PRESS_AGAIN, PauseCause,
    Vm::{
        self, Created, Creating, Ending, Exited, Paused, Pausing, Resuming, Running, Starting,
        Stopping,
    },
};
use super::{Next, send, stay};
use crate::qmp::{Command, RunStatus, ShutdownCause};

impl Vm {
    pub(super) fn ready(self) -> Next {
        match self {
            Creating {
                start: true,
                wanted,
                ..
            } => Created { wanted }.start(),
            Creating {
                start: false,
                wanted,
                ..
            } => stay(Created { wanted }),
            Created { .. }
            | Starting
            | Running
            | Pausing
            | Paused { .. }
            | Resuming
            | Stopping { .. }
            | Ending { .. }
            | Exited(_) => stay(self),
        }
    }

    pub(super) fn done(self, command: Command) -> Next {
        match (self, command) {
            (Starting | Resuming, Command::Cont) => stay(Running),
            (Pausing, Command::Stop) => stay(Paused {
                cause: PauseCause::Asked,
            }),
            (
                state @ (Creating { .. }
                | Created { .. }
                | Starting
                | Running
                | Pausing
                | Paused { .. }
                | Resuming
                | Stopping { .. }
                | Ending { .. }
                | Exited(_)),
                _,
            ) => stay(state),
        }
    }

    pub(super) fn failed(self, command: Command, what: &str, now: Instant) -> Next {
        match (self, command) {
            (state @ Starting, Command::Cont) => state.quit(
                End::Failed(format!("qemu refused to run the guest: {what}")),
                now,
            ),
            // qemu has a reason that its run state may tell.
            (Resuming, Command::Cont) => send(
                Paused {
                    cause: PauseCause::DiskError,
                },
                Command::QueryStatus,
            ),
            (Pausing, Command::Stop) => stay(Running),
            (
                state @ (Creating { .. }
                | Created { .. }
                | Starting
                | Running
                | Pausing
                | Paused { .. }
                | Resuming
                | Stopping { .. }
                | Ending { .. }
                | Exited(_)),
                _,
            ) => stay(state),
        }
    }

    pub(super) fn found(self, status: RunStatus, now: Instant) -> Next {
        match (self, status) {
            (state @ (Creating { .. } | Created { .. } | Ending { .. } | Exited(_)), _) => {
                stay(state)
            }
            (state, RunStatus::InternalError) => state.quit(End::Accelerator, now),
            (state, RunStatus::GuestPanicked) => state.quit(End::Panic, now),
            // A guest that is to be paused stays so when the disk is well again.
            (Running, RunStatus::IoError) => stay(Paused {
                cause: PauseCause::DiskError,
            }),
            (
                Running
                | Paused {
                    cause: PauseCause::DiskError,
                },
                RunStatus::Paused,
            ) => stay(Paused {
                cause: PauseCause::Asked,
            }),
            // `cont` or `stop` is on its way, and its reply says how it ended.
            (
                state @ (Starting | Running | Pausing | Paused { .. } | Resuming | Stopping { .. }),
                RunStatus::Running | RunStatus::Paused | RunStatus::IoError | RunStatus::Other,
            ) => stay(state),
        }
    }

    pub(super) fn shutdown(self, cause: ShutdownCause, now: Instant) -> Next {
        let asked = match self {
            Stopping { .. } => true,
            Creating { .. }
            | Created { .. }
            | Starting
            | Running
            | Pausing
            | Paused { .. }
            | Resuming => false,
            // Why is known already: this is what came of it.
            Ending { .. } | Exited(_) => return stay(self),
        };
        let end = match cause {
            ShutdownCause::Guest => End::PoweredOff { asked },
            ShutdownCause::GuestPanic => End::Panic,
            ShutdownCause::Quit => End::Failed("qemu was told to quit by something else".into()),
            ShutdownCause::Signal => End::Failed("qemu got a signal from something else".into()),
            ShutdownCause::Other => End::Failed("qemu shut the guest down by itself".into()),
        };
        stay(Ending {
            end,
            deadline: Some(now + EXIT_GRACE),
        })
    }

    pub(super) fn lost(self, why: String, now: Instant) -> Next {
        match self {
            Stopping { .. } => stay(Ending {
                end: End::StoppedSilently,
                deadline: Some(now + KILL_GRACE),
            }),
            Creating { .. }
            | Created { .. }
            | Starting
            | Running
            | Pausing
            | Paused { .. }
            | Resuming => {
                // Most often qemu is just exiting, and how tells more.
                stay(Ending {
                    end: End::Failed(why),
                    deadline: Some(now + KILL_GRACE),
                })
            }
            Ending { .. } | Exited(_) => stay(self),
        }
    }

    pub(super) fn cpus_stopped(self) -> Next {
        match self {
            // qemu did this by itself. It does not say why in the event.
            Starting | Running | Resuming | Stopping { .. } => send(self, Command::QueryStatus),
            Creating { .. }
            | Created { .. }
            | Pausing
            | Paused { .. }
            | Ending { .. }
            | Exited(_) => stay(self),
        }
    }

    pub(super) fn reset(self, now: Instant) -> Next {
        match self {
            // A guest that restarts instead has lost the press.
            Stopping {
                deadline,
                grace,
                pressed,
                ..
            } => {
                let press = Some(now + PRESS_AGAIN[0]);
                stay(Stopping {
                    deadline,
                    grace,
                    press,
                    pressed,
                })
            }
            Creating { .. }
            | Created { .. }
            | Starting
            | Running
            | Pausing
            | Paused { .. }
            | Resuming
            | Ending { .. }
            | Exited(_) => stay(self),
        }
    }

    pub(super) fn exited(self, exit: &Exit) -> Next {
        let end = match self {
            Exited(_) => return stay(self),
            Ending { end, .. } => end,
            Stopping { .. } => End::StoppedSilently,
            Creating { .. }
            | Created { .. }
            | Starting
            | Running
            | Pausing
            | Paused { .. }
            | Resuming => End::Failed("qemu ended without saying why".into()),
        };
        stay(Exited(end.conclude(exit)))
    }
}
