//! The one task that owns the VM. Its body is: wait (decides nothing) → step
//! ([`Vm::step`], decides everything) → perform (decides nothing).
//!
//! Signals, QMP, qemu's end, requests, the wanted state and time all become
//! [`Input`]s. It also is what PID 1 of a pod must be: it reaps every orphan,
//! and passes no signal on but through the life cycle.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use coracle_api::{
    report::{DiskState, Status, TerminationMessage},
    types::DesiredState,
};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use crate::{
    disks::{self, Disks},
    lifecycle::{Effect, Exit, ExitCode, Input, PauseCause, Request, Verdict, Vm},
    termination::{report, with_troubles},
};

mod child;
mod desired;
mod hear;
mod link;
mod signals;
mod stderr;

pub use child::{Process, SpawnError, Spawned, spawn};
pub use desired::DesiredFile;
pub use signals::{Signals, Woken};

use child::Qemu;
use link::{Link, News};
use stderr::Stderr;

/// How long to wait, once qemu is gone, for what it wrote before. It is all
/// there already unless another process holds on to the descriptors.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a request is, and where the verdict goes.
#[derive(Debug)]
pub enum Ask {
    /// Change the VM's state.
    Change(Request, oneshot::Sender<Verdict>),
    /// Forget the VM, which has ended.
    Delete(oneshot::Sender<Verdict>),
}

/// What the other tasks see of the VM.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its state.
    pub vm: Vm,
    /// qemu's process id, while it is there.
    pub pid: Option<u32>,
    /// Its disks.
    pub disks: Arc<[DiskState]>,
}

/// How the supervisor is set up.
#[derive(Debug)]
pub struct Setup {
    /// How long the guest may take to power off.
    pub grace: Duration,
    /// How long qemu may take to answer on QMP.
    pub answer: Duration,
    /// What happens at the ends of the VM's life.
    pub mode: Mode,
    /// Where to tell why it ended.
    pub termination_log: PathBuf,
}

/// What happens at the ends of the VM's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `run`: the guest starts at once, and the shim ends with the VM.
    Run,
    /// `create`: the guest waits for `start`, and the shim answers for the VM
    /// until `delete`.
    Create,
}

/// The owner of a VM.
#[derive(Debug)]
pub struct Supervisor {
    vm: Vm,
    setup: Setup,
    qemu: Option<Qemu>,
    link: Link,
    stderr: Stderr,
    reaped: Option<(ExitCode, Instant)>,
    signals: Signals,
    desired: DesiredFile,
    disks: Disks,
    /// The disks as they were reported last.
    reported: Arc<[DiskState]>,
    asks: mpsc::Receiver<Ask>,
    snapshots: watch::Sender<Snapshot>,
    /// Whether qemu ever was ready. If not, there is nothing to be asked about.
    created: bool,
    deleted: bool,
}

/// What [`Supervisor::wait`] waits for.
enum Happening {
    Input(Input),
    Ask(Ask),
    Signal(Woken),
    News(News),
    Disks(disks::News),
    /// Something was taken note of; the state is looked at again.
    Nothing,
}

impl Supervisor {
    /// Takes over a qemu that was just started.
    #[must_use]
    pub fn new(
        setup: Setup,
        process: Process,
        signals: Signals,
        desired: DesiredFile,
        disks: Disks,
        asks: mpsc::Receiver<Ask>,
    ) -> Self {
        let Process { qemu, qmp, stderr } = process;
        let mut vm = Vm::new(Instant::now() + setup.answer, desired.wanted());
        if setup.mode == Mode::Run {
            // Nothing is sent yet, so there are no effects to perform.
            (vm, _) = vm.step(Input::Start, Instant::now());
        }
        let reported: Arc<[DiskState]> = disks.states().into();
        let snapshots = watch::Sender::new(Snapshot {
            vm: vm.clone(),
            pid: Some(qemu.id()),
            disks: Arc::clone(&reported),
        });
        Self {
            vm,
            setup,
            qemu: Some(qemu),
            link: Link::new(qmp),
            stderr: Stderr::new(stderr),
            reaped: None,
            signals,
            desired,
            disks,
            reported,
            asks,
            snapshots,
            created: false,
            deleted: false,
        }
    }

    /// A view of the VM for other tasks.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.snapshots.subscribe()
    }

    /// Drives the VM to its end.
    ///
    /// # Cancellation
    /// qemu goes on without an owner until the process ends, and dies with it.
    pub async fn run(mut self) -> TerminationMessage {
        loop {
            if let Vm::Exited(termination) = &self.vm
                && (self.setup.mode == Mode::Run || self.deleted || !self.created)
            {
                return termination.clone();
            }
            match self.wait().await {
                Happening::Input(input) => self.apply(input),
                Happening::Ask(ask) => self.answer(ask),
                Happening::Signal(woken) => self.woken(woken),
                Happening::News(news) => self.hear(news),
                Happening::Disks(disks::News::Mended) => self.apply(Input::Mended),
                Happening::Disks(disks::News::Sizes(commands)) => {
                    for command in commands {
                        self.perform(Effect::Send(command));
                    }
                    self.report_disks();
                }
                Happening::Nothing => {}
            }
        }
    }

    /// Waits for whatever comes first. QMP stands before the rest: what qemu
    /// said before it ended must be known when its end is judged.
    async fn wait(&mut self) -> Happening {
        if let Some((code, until)) = self.reaped
            && ((self.link.is_closed() && self.stderr.is_closed()) || Instant::now() >= until)
        {
            self.reaped = None;
            self.qemu = None;
            return Happening::Input(Input::QemuExited(Exit {
                code,
                stderr: self.stderr.tail(),
            }));
        }
        let reaped = self.reaped.map(|(_, until)| until);
        let (has_disks, guest_waits) = self.about_disks();
        let next = [self.vm.deadline(), reaped].into_iter().flatten().min();
        tokio::select! {
            biased;
            news = self.link.next() => Happening::News(news),
            woken = self.signals.next() => Happening::Signal(woken),
            () = self.stderr.read() => Happening::Nothing,
            Some(ask) = self.asks.recv() => Happening::Ask(ask),
            wanted = self.desired.changed() => Happening::Input(Input::Desire(wanted)),
            news = self.disks.next(guest_waits), if has_disks => Happening::Disks(news),
            () = sleep_until(next) => Happening::Input(Input::Tick),
        }
    }

    /// Whether the disks are qemu's, and whether its guest may wait for one.
    fn about_disks(&self) -> (bool, bool) {
        match &self.vm {
            Vm::Creating { .. } | Vm::Ending { .. } | Vm::Exited(_) => (false, false),
            Vm::Created { .. }
            | Vm::Starting
            | Vm::Running
            | Vm::Pausing
            | Vm::Resuming
            | Vm::Paused {
                cause: PauseCause::Asked,
            } => (true, false),
            Vm::Stopping { .. }
            | Vm::Paused {
                cause: PauseCause::DiskError,
            } => (true, true),
        }
    }

    /// One step, and what comes of it.
    fn apply(&mut self, input: Input) {
        let before = self.vm.name();
        let (vm, effects) = self.vm.clone().step(input, Instant::now());
        self.vm = vm;
        for effect in effects {
            self.perform(effect);
        }
        if self.vm.name() != before {
            info!(from = before, to = self.vm.name(), "the VM's state changed");
            if let Vm::Exited(termination) = &self.vm {
                let termination = with_troubles(termination.clone(), &self.disks.troubles());
                report(&termination, &self.setup.termination_log);
            }
        }
        self.publish();
    }

    fn publish(&self) {
        self.snapshots.send_replace(Snapshot {
            vm: self.vm.clone(),
            pid: self.qemu.as_ref().map(Qemu::id),
            disks: Arc::clone(&self.reported),
        });
    }

    fn report_disks(&mut self) {
        self.reported = self.disks.states().into();
        self.publish();
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send(command) => {
                debug!(%command, "sent to qemu");
                self.link.send(command);
            }
            Effect::Kill => {
                if let (Some(qemu), None) = (&self.qemu, self.reaped) {
                    warn!("killing qemu");
                    qemu.kill();
                }
            }
        }
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Change(request, reply) => {
                let verdict = self.vm.judge(request);
                let input = match request {
                    Request::Start => Input::Start,
                    Request::Pause => Input::Desire(DesiredState::Paused),
                    Request::Resume => Input::Desire(DesiredState::Running),
                    Request::Term => Input::Stop {
                        grace: self.setup.grace,
                    },
                    Request::Kill => Input::Kill,
                };
                info!(?request, ?verdict, "request");
                if verdict == Verdict::Proceed {
                    self.apply(input);
                }
                // The caller may have gone; the request stands.
                let _ = reply.send(verdict);
            }
            Ask::Delete(reply) => {
                self.deleted = self.vm.status() == Status::Stopped;
                let refused = Verdict::Refused("the VM has not ended: `coracle-shim kill` ends it");
                let _ = reply.send(if self.deleted {
                    Verdict::Proceed
                } else {
                    refused
                });
            }
        }
    }

    fn woken(&mut self, woken: Woken) {
        match woken {
            Woken::Stop => {
                info!("asked to stop by a signal");
                // A VM that has ended is only kept to be asked about.
                self.deleted = true;
                self.apply(Input::Stop {
                    grace: self.setup.grace,
                });
            }
            Woken::StopNow => {
                info!("asked to stop at once by a second interrupt");
                self.deleted = true;
                self.apply(Input::Kill);
            }
            Woken::Child => {
                let qemu = self.qemu.as_ref().map(Qemu::pid);
                if let Some(code) = signals::reap(qemu) {
                    info!(%code, "qemu ended");
                    self.reaped = Some((code, Instant::now() + LAST_WORDS));
                }
            }
        }
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
