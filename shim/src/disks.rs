//! The disks of a running VM: held for it, watched for another size, and
//! looked after when they have no room.
//!
//! What is decided here about a size or a retry is pure (`size`, `retry`);
//! `watch` is what wakes. Never writes to a disk, and never changes a size:
//! an image file has the size that its owner gives it, a device that of its
//! volume. A disk that grew is told to the guest; one that shrank is not,
//! because no guest survives that.

mod fault;
mod retry;
mod size;
mod watch;

use std::{io, time::Instant};

use coracle_api::{machine::Machine, report::DiskState};
use coracle_block::{
    device::{Kind, OpenDisk},
    qemu,
};
use tracing::{debug, error, info, warn};

use crate::{prepare::Found, qmp::Command};
pub use fault::Fault;
use retry::Retry;
use size::{Change, Known};
use watch::Watch;

/// How many notes are kept of a disk; the oldest go first.
const NOTES: usize = 20;

/// The disks of a VM, kept for it while this lives.
#[derive(Debug)]
pub struct Disks {
    held: Vec<Held>,
    watch: Watch,
    retry: Retry,
}

/// One disk.
#[derive(Debug)]
struct Held {
    guard: OpenDisk,
    known: Known,
    state: DiskState,
    /// How many notes there have been.
    noted: u64,
}

/// What there is to do about the disks.
#[derive(Debug)]
pub enum News {
    /// Sizes have changed, and the guest is to be told of these.
    Sizes(Vec<Command>),
    /// A disk that failed may be well again.
    Mended,
}

impl Disks {
    /// Takes over the disks that were found for `machine`, and watches them
    /// from now on.
    #[must_use]
    pub fn new(machine: &Machine, found: Found) -> Self {
        let host = found.host(machine);
        let held = found
            .disks
            .into_iter()
            .zip(found.guards)
            .map(|(disk, guard)| Held {
                known: Known::new(guard.facts.size_bytes, disk.disk.read_only),
                state: DiskState {
                    name: disk.disk.name.clone(),
                    path: disk.facts.path.clone(),
                    size_bytes: disk.facts.size_bytes,
                    logical_block_size: disk.facts.logical_block_size,
                    physical_block_size: disk.facts.physical_block_size,
                    read_only: disk.disk.read_only,
                    decisions: qemu::decisions(&disk.disk, &disk.facts, host),
                    last_error: None,
                    notes: vec![],
                },
                noted: 0,
                guard,
            });
        let mut held: Vec<Held> = held.collect();
        for held in &mut held {
            held.tell_of_lost_overlay();
        }
        // A container image's files have the size that they have.
        let files = held.iter().filter(|held| {
            let facts = &held.guard.facts;
            facts.kind == Kind::File && facts.image.is_none()
        });
        let files: Vec<&str> = files.map(|held| held.state.path.as_str()).collect();
        let devices = held.iter();
        let devices = devices.filter(|held| held.guard.facts.kind != Kind::File);
        let devices = devices.count() > 0;
        let watch = Watch::new(&files, devices);
        Self {
            held,
            watch,
            retry: Retry::default(),
        }
    }

    /// The disks as they are reported.
    #[must_use]
    pub fn states(&self) -> Vec<DiskState> {
        self.held.iter().map(|held| held.state.clone()).collect()
    }

    /// What is wrong with the disks now, a sentence for each.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let sentence = |held: &Held| {
            let trouble = held.known.trouble()?;
            Some(format!("disk \"{}\" {trouble}", held.state.name))
        };
        self.held.iter().filter_map(sentence).collect()
    }

    /// The first disk that a process should have open and has not: something
    /// else is at its path by now. Where that cannot be seen, none.
    #[must_use]
    pub fn not_open_in(&self, pid: u32) -> Option<String> {
        let wrong = self.held.iter().find(|held| {
            let open = held.guard.is_open_in(pid);
            if let Err(error) = &open {
                debug!(%error, disk = held.state.name, "what qemu has open cannot be seen");
            }
            matches!(open, Ok(false))
        });
        wrong.map(|held| held.state.name.clone())
    }

    /// Waits until there is something to do. A disk that failed is looked
    /// after only while the guest waits for it.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub async fn next(&mut self, guest_waits: bool) -> News {
        loop {
            let retry = if guest_waits { self.retry.at() } else { None };
            tokio::select! {
                () = self.watch.touched() => {
                    if let Some(grown) = self.look() {
                        return News::Sizes(grown);
                    }
                }
                () = until(retry) => {
                    if self.has_room() {
                        self.retry.tried(Instant::now());
                        return News::Mended;
                    }
                    self.retry.put_off(Instant::now());
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        let without = self.held.iter().filter(|held| {
            let error = held.state.last_error.as_ref();
            error.is_some_and(|error| error.no_space && error.stopped)
        });
        without.into_iter().all(|held| held.guard.may_have_room())
    }

    /// Looks at the sizes; when one changed, the commands that tell the guest
    /// of those that grew.
    fn look(&mut self) -> Option<Vec<Command>> {
        let notes = |held: &[Held]| held.iter().map(|held| held.noted).sum::<u64>();
        let before = notes(&self.held);
        let mut commands = Vec::new();
        for (index, held) in self.held.iter_mut().enumerate() {
            match held.guard.size_bytes() {
                Ok(size) => commands.extend(held.judge(index, size)),
                Err(error) => held.unreadable(&error),
            }
        }
        let changed = !commands.is_empty() || notes(&self.held) > before;
        changed.then_some(commands)
    }

    /// qemu has told the guest of a size, or has refused to.
    pub fn resized(&mut self, disk: usize, size: u64, refused: Option<&str>) {
        let Some(held) = self.held.get_mut(disk) else {
            return;
        };
        let name = &held.state.name;
        let note = match refused {
            None => {
                info!(
                    disk = name,
                    size_bytes = size,
                    "the guest sees the disk's new size"
                );
                let old = std::mem::replace(&mut held.state.size_bytes, size);
                format!("grew from {old} to {size} bytes; the guest sees it")
            }
            Some(why) => {
                error!(
                    disk = name,
                    size_bytes = size,
                    why,
                    "qemu refused the disk's new size"
                );
                format!(
                    "grew to {size} bytes, which qemu refused ({why}): the guest sees it when the \
                     VM is started again"
                )
            }
        };
        held.note(note);
    }

    /// A disk's device has returned an error.
    pub fn failed(&mut self, fault: &Fault) {
        let now = Instant::now();
        if fault.stops {
            self.retry.failed(fault.no_space, now);
        }
        let held = qemu::index_of(&fault.node).and_then(|index| self.held.get_mut(index));
        if let Some(held) = held {
            fault.record(&mut held.state);
        } else {
            error!(node = fault.node, reason = fault.reason, "disk error");
        }
    }
}

impl Held {
    fn tell_of_lost_overlay(&mut self) {
        let image = self.guard.facts.image.as_ref();
        if image.is_some_and(|image| image.replaced) {
            warn!(
                disk = self.state.name,
                "the disk's container image is another one than at the last start"
            );
            self.note(
                "the container image is another one than at the last start in this pod: what the \
                 guest had written over that one is gone"
                    .to_owned(),
            );
        }
    }

    fn judge(&mut self, index: usize, size: u64) -> Option<Command> {
        let name = &self.state.name;
        match self.known.see(size) {
            Change::None => None,
            Change::Grown { from, to } => {
                info!(disk = name, from, to, "the disk grew");
                Some(Command::BlockResize {
                    disk: index,
                    size: to,
                })
            }
            Change::GrownReadOnly { from, to } => {
                warn!(disk = name, from, to, "a read-only disk grew");
                self.note(format!(
                    "grew from {from} to {to} bytes; a read-only disk's guest sees it when the VM \
                     is started again"
                ));
                None
            }
            Change::Shrunk { from, to } => {
                error!(
                    disk = name,
                    from,
                    to,
                    "the disk shrank, which is kept from the guest: make it as large again"
                );
                self.note(format!(
                    "shrank from {from} to {to} bytes, which is kept from the guest: reads and \
                     writes beyond the new end fail until it is as large again"
                ));
                None
            }
        }
    }

    fn unreadable(&mut self, error: &io::Error) {
        if self.known.lose() {
            error!(disk = self.state.name, %error, "the disk's size cannot be read any more");
            self.note(format!("its size cannot be read any more: {error}"));
        }
    }

    fn note(&mut self, note: String) {
        if self.state.notes.len() == NOTES {
            self.state.notes.remove(0);
        }
        self.noted += 1;
        self.state.notes.push(note);
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
