//! What qemu says, turned into inputs of the life cycle and news of disks.
//! Decides nothing.

use tracing::{debug, error, info};

use super::{Qemu, Supervisor, link::News};
use crate::{
    lifecycle::Input,
    qmp::{Command, Event, Incoming, RunStatus},
};

impl Supervisor {
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Ready { version } => {
                info!(version, "qemu is ready");
                self.created = true;
                let qemu = self.qemu.as_ref().map(Qemu::id);
                match qemu.and_then(|pid| self.disks.not_open_in(pid)) {
                    None => self.apply(Input::QmpReady),
                    Some(disk) => {
                        error!(disk, "qemu has something else open than what was checked");
                        self.apply(Input::WrongDisk(disk));
                    }
                }
            }
            News::Lost { why } => self.apply(Input::QmpLost(why)),
            News::Incoming(Incoming::Reply {
                command: Command::QueryStatus,
                result: Ok(value),
            }) => {
                self.apply(Input::Status(RunStatus::new(&value)));
            }
            News::Incoming(Incoming::Reply {
                command: Command::BlockResize { disk, size },
                result,
            }) => {
                let refused = result.err().map(|failure| failure.0);
                self.disks.resized(disk, size, refused.as_deref());
                self.report_disks();
            }
            News::Incoming(Incoming::Reply {
                command,
                result: Ok(_),
            }) => {
                self.apply(Input::Done(command));
            }
            News::Incoming(Incoming::Reply {
                command,
                result: Err(failure),
            }) => {
                error!(%command, failure = failure.0, "qemu refused a command");
                self.apply(Input::Failed(command, failure.0));
            }
            News::Incoming(Incoming::Event(event)) => self.hear_event(event),
        }
    }

    fn hear_event(&mut self, event: Event) {
        match event {
            Event::Shutdown(cause) => {
                info!(?cause, "the machine shuts down");
                self.apply(Input::Shutdown(cause));
            }
            Event::GuestPanicked => {
                error!("the guest's kernel panicked");
                self.apply(Input::Panicked);
            }
            Event::Stop => self.apply(Input::CpusStopped),
            Event::Resume => debug!("the guest runs"),
            Event::Reset => {
                info!("the guest was reset");
                self.apply(Input::Reset);
            }
            Event::BlockIoError(fault) => {
                self.disks.failed(&fault);
                self.report_disks();
            }
            Event::Other(name) => debug!(name, "qemu event"),
        }
    }
}
