//! What each input does in each state: one function per input, and in each of
//! them every state by name, so that a new state does not compile until every
//! input answers it.

use std::time::{Duration, Instant};

use coracle_api::types::DesiredState;

use super::{
    EXIT_GRACE, Effect, End, Exit, Input, KILL_GRACE, PRESS_AGAIN, PauseCause,
    Vm::{
        self, Created, Creating, Ending, Exited, Paused, Pausing, Resuming, Running, Starting,
        Stopping,
    },
};
use crate::qmp::{Command, RunStatus, ShutdownCause};

/// The next state, and what is to be done.
type Next = (Vm, Vec<Effect>);

impl Vm {
    /// Takes one input.
    #[must_use]
    pub fn step(self, input: Input, now: Instant) -> Next {
        match input {
            Input::QmpReady => self.ready(),
            Input::QmpLost(why) => self.lost(why, now),
            Input::Start => self.start(),
            Input::Desire(wanted) => self.desire(wanted),
            Input::Stop { grace } => self.stop(grace, now),
            Input::Kill => self.kill(now),
            Input::Tick => self.tick(now),
            Input::Done(command) => self.done(command),
            Input::Failed(command, what) => self.failed(command, &what, now),
            Input::Status(status) => self.found(status, now),
            Input::Shutdown(cause) => self.shutdown(cause, now),
            Input::Panicked => self.quit(End::Panic, now),
            Input::CpusStopped => self.cpus_stopped(),
            Input::Reset => self.reset(now),
            Input::QemuExited(exit) => self.exited(&exit),
        }
    }

    fn ready(self) -> Next {
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

    fn start(self) -> Next {
        match self {
            Creating {
                deadline, wanted, ..
            } => stay(Creating {
                deadline,
                start: true,
                wanted,
            }),
            Created {
                wanted: DesiredState::Running,
            } => send(Starting, Command::Cont),
            Created {
                wanted: DesiredState::Paused,
            } => stay(Paused {
                cause: PauseCause::Asked,
            }),
            Starting
            | Running
            | Pausing
            | Paused { .. }
            | Resuming
            | Stopping { .. }
            | Ending { .. }
            | Exited(_) => stay(self),
        }
    }

    fn desire(self, wanted: DesiredState) -> Next {
        match (self, wanted) {
            (
                Creating {
                    deadline, start, ..
                },
                wanted,
            ) => stay(Creating {
                deadline,
                start,
                wanted,
            }),
            (Created { .. }, wanted) => stay(Created { wanted }),
            (Running | Starting | Resuming, DesiredState::Paused) => send(Pausing, Command::Stop),
            (Paused { .. } | Pausing, DesiredState::Running) => send(Resuming, Command::Cont),
            // As it is wanted already, or too late.
            (state @ (Running | Starting | Resuming), DesiredState::Running)
            | (state @ (Paused { .. } | Pausing), DesiredState::Paused)
            | (state @ (Stopping { .. } | Ending { .. } | Exited(_)), _) => stay(state),
        }
    }

    fn stop(self, grace: Duration, now: Instant) -> Next {
        let stopping = Stopping {
            deadline: now + grace,
            grace,
            press: Some(now + PRESS_AGAIN[0]),
            pressed: 0,
        };
        match self {
            // Nothing has run, so there is nobody to ask.
            Creating { .. } | Created { .. } => self.quit(End::NotStarted, now),
            Starting | Running | Resuming => send(stopping, Command::Powerdown),
            // A guest that does not run cannot see the button.
            Pausing | Paused { .. } => (
                stopping,
                vec![
                    Effect::Send(Command::Cont),
                    Effect::Send(Command::Powerdown),
                ],
            ),
            Stopping { .. } | Ending { .. } | Exited(_) => stay(self),
        }
    }

    fn kill(self, now: Instant) -> Next {
        match self {
            Ending {
                end,
                deadline: Some(_),
            } => kill(end),
            Creating { .. }
            | Created { .. }
            | Starting
            | Running
            | Pausing
            | Paused { .. }
            | Resuming
            | Stopping { .. } => self.quit(End::Kill, now),
            Ending { deadline: None, .. } | Exited(_) => stay(self),
        }
    }

    fn tick(self, now: Instant) -> Next {
        match self {
            Creating { deadline, .. } if now >= deadline => self.quit(End::NoAnswer, now),
            Stopping {
                deadline, grace, ..
            } if now >= deadline => self.quit(End::Deadline { grace }, now),
            Stopping {
                deadline,
                grace,
                press: Some(press),
                pressed,
            } if now >= press => {
                let pressed = pressed + 1;
                let press = PRESS_AGAIN.get(pressed).map(|delay| now + *delay);
                send(
                    Stopping {
                        deadline,
                        grace,
                        press,
                        pressed,
                    },
                    Command::Powerdown,
                )
            }
            Ending {
                end,
                deadline: Some(deadline),
            } if now >= deadline => kill(end),
            Creating { .. }
            | Created { .. }
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

    fn done(self, command: Command) -> Next {
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

    fn failed(self, command: Command, what: &str, now: Instant) -> Next {
        match (self, command) {
            (state @ Starting, Command::Cont) => state.quit(
                End::Failed(format!("qemu refused to run the guest: {what}")),
                now,
            ),
            // qemu has a reason that its run state may tell.
            (Resuming, Command::Cont) => send(
                Paused {
                    cause: PauseCause::Asked,
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

    fn found(self, status: RunStatus, now: Instant) -> Next {
        match (self, status) {
            (state @ (Creating { .. } | Created { .. } | Ending { .. } | Exited(_)), _) => {
                stay(state)
            }
            (state, RunStatus::InternalError) => state.quit(End::Accelerator, now),
            (state, RunStatus::GuestPanicked) => state.quit(End::Panic, now),
            (Running | Pausing | Paused { .. }, RunStatus::IoError) => stay(Paused {
                cause: PauseCause::DiskError,
            }),
            (Running, RunStatus::Paused) => stay(Paused {
                cause: PauseCause::Asked,
            }),
            // `cont` or `stop` is on its way, and its reply says how it ended.
            (
                state @ (Starting | Running | Pausing | Paused { .. } | Resuming | Stopping { .. }),
                RunStatus::Running | RunStatus::Paused | RunStatus::IoError | RunStatus::Other,
            ) => stay(state),
        }
    }

    fn shutdown(self, cause: ShutdownCause, now: Instant) -> Next {
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

    fn lost(self, why: String, now: Instant) -> Next {
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

    fn cpus_stopped(self) -> Next {
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

    fn reset(self, now: Instant) -> Next {
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

    fn exited(self, exit: &Exit) -> Next {
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

    /// Ends qemu: with `quit` where it listens, else by killing it.
    fn quit(self, end: End, now: Instant) -> Next {
        match self {
            Creating { .. } => kill(end),
            Created { .. }
            | Starting
            | Running
            | Pausing
            | Paused { .. }
            | Resuming
            | Stopping { .. } => send(
                Ending {
                    end,
                    deadline: Some(now + KILL_GRACE),
                },
                Command::Quit,
            ),
            Ending { .. } | Exited(_) => stay(self),
        }
    }
}

fn stay(state: Vm) -> Next {
    (state, Vec::new())
}

fn send(state: Vm, command: Command) -> Next {
    (state, vec![Effect::Send(command)])
}

fn kill(end: End) -> Next {
    (
        Ending {
            end,
            deadline: None,
        },
        vec![Effect::Kill],
    )
}
