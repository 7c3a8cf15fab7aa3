//! What each input does in each state: one function per input, and in each of
//! them every state by name, so that a new state does not compile until every
//! input answers it.

mod heard;

use std::time::{Duration, Instant};

use coracle_api::types::DesiredState;

use super::{
    Effect, End, Input, KILL_GRACE, PRESS_AGAIN, PauseCause,
    Vm::{
        self, Created, Creating, Ending, Exited, Paused, Pausing, Resuming, Running, Starting,
        Stopping,
    },
};
use crate::qmp::Command;

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
            Input::Mended => self.mended(),
            Input::WrongDisk(disk) => self.quit(End::WrongDisk(disk), now),
            Input::QemuExited(exit) => self.exited(&exit),
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
            // From now on it is not the disk alone that keeps it.
            (Paused { .. }, DesiredState::Paused) => stay(Paused {
                cause: PauseCause::Asked,
            }),
            // As it is wanted already, or too late.
            (state @ (Running | Starting | Resuming), DesiredState::Running)
            | (state @ Pausing, DesiredState::Paused)
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

    fn mended(self) -> Next {
        match self {
            Paused {
                cause: PauseCause::DiskError,
            } => send(Resuming, Command::Cont),
            // It may be the disk that keeps the guest from powering off.
            Stopping { .. } => send(self, Command::Cont),
            Creating { .. }
            | Created { .. }
            | Starting
            | Running
            | Pausing
            | Paused {
                cause: PauseCause::Asked,
            }
            | Resuming
            | Ending { .. }
            | Exited(_) => stay(self),
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
