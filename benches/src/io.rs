//! What a guest's disk does: the guest's program reads and writes it through
//! the options that the shim gives qemu, beside the best that a person would
//! give it by hand, and beside the same program on the host's device.
//!
//! All sides are there at once, each with a device of the same kind, and work in
//! turn; then all begin anew with their devices exchanged, because two processes
//! of one program with one set of options differ by more than the options do. The
//! devices are in memory, where qemu's own part shows most.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use coracle_api::machine::{Disk, DiskSource};
use serde_json::json;

use crate::bare::Bare;
use crate::device::Loop;
use crate::guest::{Linux, Then};
use crate::shim::{Pod, Setup};
use coracle_benches::median;

use crate::stats::{Pairs, Results};
use crate::{line, process};

/// Size of a device.
const SIZE: u64 = 512 << 20;
/// How often the work is done, and counted, after each start.
const ROUNDS: usize = 2;
/// Where files are in memory.
const MEMORY: &str = "/dev/shm";
/// What the guest's program says when it has nothing to do (`load/src/main.rs`).
const READY: &str = "coracle-bench-load: ready";
/// Names of the work, and the lines for it.
const WORK: [(&str, &str); 4] = [
    ("sequential read", "read sequential 1048576 1024 4"),
    ("sequential write", "write sequential 1048576 1024 4"),
    ("random read", "read random 4096 6000 16"),
    ("random write", "write random 4096 6000 16"),
];
/// The sides: ours without and with `iothread: true` in the VM, what people give
/// qemu (first what a disk without an I/O thread gets at best), the host.
const OURS: [&str; 2] = ["", ", iothread: true"];
const BY_HAND: [(&str, &str, bool); 4] = [
    ("native", "native", false),
    ("native, iothread", "native", true),
    ("io_uring", "io_uring", false),
    ("io_uring, iothread", "io_uring", true),
];
const HOST: usize = OURS.len() + BY_HAND.len();
const SIDES: usize = HOST + 1;

/// What a piece of work took, in seconds.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    /// CPU time of the side's process: what a busy machine changes least.
    cpu: f64,
}

/// Of each work, of each side, of each start; nothing where a side had stalled.
type Times = [[Vec<Option<Took>>; SIDES]; WORK.len()];

/// A guest that has not answered after this long never does: a qemu that emulates
/// can lose the notification of an I/O thread.
const STALLED: Duration = Duration::from_secs(30);

pub(crate) fn measure(
    setup: &Setup,
    linux: &Linux,
    load: &Path,
    passes: usize,
    results: &mut Results,
) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("coracle-bench.")
        .tempdir_in(MEMORY)?;
    let devices = (0..SIDES)
        .map(|side| Loop::full(dir.path(), &format!("device{side}.img"), SIZE))
        .collect::<anyhow::Result<Vec<Loop>>>()?;
    let mut times = Times::default();
    for pass in 0..passes {
        let device = |side: usize| &devices[(side + pass) % SIDES];
        let mut sides = start(setup, linux, load, device)?;
        // Not counted: it warms the caches, the guest's translated code among
        // them.
        round(&mut sides, pass, &mut Times::default())?;
        let mut rounds = Times::default();
        for number in 0..ROUNDS {
            round(&mut sides, pass + number, &mut rounds)?;
        }
        for (all, here) in times.iter_mut().flatten().zip(rounds.iter().flatten()) {
            all.push(middle(here));
        }
    }
    tell(&times, results);
    Ok(())
}

/// The median of the rounds of one start; nothing if the guest stalled.
fn middle(rounds: &[Option<Took>]) -> Option<Took> {
    let all: Vec<Took> = rounds.iter().copied().collect::<Option<_>>()?;
    let of = |value: fn(&Took) -> f64| median(&all.iter().map(value).collect::<Vec<f64>>());
    Some(Took {
        wall: of(|took| took.wall),
        cpu: of(|took| took.cpu),
    })
}

/// All the work on every side, each work on all sides in turn. Another side begins
/// every time, and every other round goes backwards, so that none has a place of
/// its own.
fn round(sides: &mut [Side], number: usize, times: &mut Times) -> anyhow::Result<()> {
    for (work, (_, line)) in WORK.iter().enumerate() {
        for turn in 0..SIDES {
            let place = (turn + number / 2 + work) % SIDES;
            let side = match number % 2 {
                0 => place,
                _ => SIDES - 1 - place,
            };
            times[work][side].push(sides[side].work(line)?);
        }
    }
    Ok(())
}

/// The starts in which both have done the work: one of them and the other.
fn both([one, other]: [&[Option<Took>]; 2], value: fn(&Took) -> f64) -> [Vec<f64>; 2] {
    let both = one.iter().zip(other);
    let both = both.filter_map(|(one, other)| Some((value(&(*one)?), value(&(*other)?))));
    let (one, other) = both.unzip();
    [one, other]
}

fn tell(times: &Times, results: &mut Results) {
    // 0.98 of its speed.
    let goal = Some("≤ 1.02");
    let pairs = [(0, OURS.len()), (1, best(times))];
    let mut against = |name: &str, sides: [&[Option<Took>]; 2], what: &str, value, goal| {
        let [coracle, bare] = both(sides, value);
        results.pairs.push(Pairs {
            coracle,
            bare,
            ..Pairs::new(&format!("{name} / {what}"), "s", goal)
        });
    };
    for ((name, _), sides) in WORK.iter().zip(times) {
        for (ours, by_hand) in pairs {
            let (name, what) = (format!("{name}{}", OURS[ours]), by_hand_name(by_hand));
            let sides = [&sides[ours][..], &sides[by_hand]];
            against(&name, sides, what, |took| took.wall, goal);
            against(&name, sides, &format!("{what}, CPU"), |took| took.cpu, None);
        }
        let sides = [&sides[0][..], &sides[HOST]];
        against(name, sides, "host", |took| took.wall, None);
    }
    for (ours, by_hand) in pairs {
        let name = format!("all of it{}", OURS[ours]);
        let sides = [&all(times, ours)[..], &all(times, by_hand)];
        against(&name, sides, by_hand_name(by_hand), |took| took.wall, goal);
    }
    stalled(times, results);
}

fn by_hand_name(side: usize) -> &'static str {
    BY_HAND[side - OURS.len()].0
}

/// All the work of a side in one figure of each start: the geometric mean, so that
/// each piece of work counts alike.
fn all(times: &Times, side: usize) -> Vec<Option<Took>> {
    let count = u32::try_from(WORK.len()).unwrap_or(u32::MAX);
    let mean = |start: usize, value: fn(&Took) -> f64| {
        let logs = times.iter().map(|sides| {
            let took = sides[side][start].as_ref();
            took.map(|took| value(took).ln())
        });
        let sum: Option<f64> = logs.sum();
        sum.map(|sum| (sum / f64::from(count)).exp())
    };
    (0..times[0][side].len())
        .map(|start| {
            Some(Took {
                wall: mean(start, |took| took.wall)?,
                cpu: mean(start, |took| took.cpu)?,
            })
        })
        .collect()
}

/// Of what people give qemu, the one that takes least for all the work: a disk has
/// one set of options, whatever is done to it.
fn best(times: &Times) -> usize {
    let took = |side: &usize| {
        let all = all(times, *side);
        let wall = all.iter().flatten().map(|took| took.wall);
        median(&wall.collect::<Vec<f64>>())
    };
    (OURS.len()..HOST)
        .min_by(|one, other| took(one).total_cmp(&took(other)))
        .unwrap_or(OURS.len())
}

fn stalled(times: &Times, results: &mut Results) {
    let by_hand = BY_HAND.iter().map(|(name, ..)| *name);
    for (name, took) in ["coracle", "coracle, iothread: true"]
        .into_iter()
        .chain(by_hand)
        .zip(&times[0])
    {
        let missing = took.iter().filter(|took| took.is_none()).count();
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        if missing > 0 {
            let what = format!("starts with a stalled guest, {name}");
            results.figure(what, "", vec![f64::from(missing)], None);
        }
    }
}

fn start<'a>(
    setup: &Setup,
    linux: &Linux,
    load: &Path,
    device: impl Fn(usize) -> &'a Loop,
) -> anyhow::Result<Vec<Side>> {
    let ours = arguments(setup, linux, device(0), false)?;
    let with_thread = arguments(setup, linux, device(1), true)?;
    let mut sides = vec![Side::guest(&ours)?, Side::guest(&with_thread)?];
    for (index, (_, aio, iothread)) in BY_HAND.into_iter().enumerate() {
        let device = device(OURS.len() + index);
        let arguments = by_hand(&ours, device, aio, iothread)?;
        sides.push(Side::guest(&arguments)?);
    }
    sides.push(Side::host(load, device(HOST))?);
    Ok(sides)
}

/// What the shim gives qemu for this device.
fn arguments(
    setup: &Setup,
    linux: &Linux,
    device: &Loop,
    iothread: bool,
) -> anyhow::Result<Vec<String>> {
    let pod = Pod::new(None)?;
    let mut machine = linux.machine(Then::Load, &pod.disk());
    let path = device.path.clone();
    machine.disks = vec![Disk {
        iothread,
        ..Disk::plain("data", DiskSource::Block { path })
    }];
    let mut shim = pod.start(setup, &machine)?;
    let mut log = shim.stderr()?;
    line::wait_for(&mut log, &["qemu is ready"])?;
    line::drain(log);
    process::arguments(shim.qemu()?)
}

/// The same machine with another disk in place of ours.
fn by_hand(
    ours: &[String],
    device: &Loop,
    aio: &str,
    iothread: bool,
) -> anyhow::Result<Vec<String>> {
    let mut arguments: Vec<String> = Vec::new();
    let mut removed = 0;
    for argument in ours {
        if argument.contains("\"disk0\"") || argument.contains("drive=disk0") {
            arguments.pop().context("an option has a switch")?;
            removed += 1;
        } else {
            arguments.push(argument.clone());
        }
    }
    anyhow::ensure!(removed == 2, "the disk is not two options of {ours:?}");
    let blockdev = json!({
        "driver": "host_device",
        "node-name": "tuned",
        "filename": device.path,
        "aio": aio,
        "cache": {"direct": true, "no-flush": false},
        "discard": "unmap",
    });
    let mut model = "virtio-blk-pci,drive=tuned,num-queues=1".to_owned();
    if iothread {
        arguments.extend(["-object".into(), "iothread,id=tuned-thread".into()]);
        model.push_str(",iothread=tuned-thread");
    }
    arguments.extend(["-blockdev".into(), blockdev.to_string()]);
    arguments.extend(["-device".into(), model]);
    Ok(arguments)
}

/// Somebody who works off lines.
struct Side {
    stalled: bool,
    commands: Box<dyn Write>,
    answers: BufReader<Box<dyn Read>>,
    /// Ended when dropped.
    process: Process,
}

enum Process {
    Guest(Bare),
    Host(Ending),
}

impl Process {
    fn id(&self) -> u32 {
        match self {
            Self::Guest(bare) => bare.pid(),
            Self::Host(child) => child.0.id(),
        }
    }
}

/// Ends its process when dropped.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Side {
    fn guest(arguments: &[String]) -> anyhow::Result<Self> {
        let mut bare = Bare::start(arguments)?;
        bare.cont()?;
        let (commands, answers) = (bare.input()?, bare.serial()?.into_inner());
        let mut side = Self::new(
            Box::new(commands),
            Box::new(answers.try_clone()?),
            Process::Guest(bare),
        )?;
        // Booting may take longer.
        answers.set_read_timeout(Some(STALLED))?;
        side.answers = BufReader::new(Box::new(answers));
        Ok(side)
    }

    fn host(load: &Path, device: &Loop) -> anyhow::Result<Self> {
        let mut child = Command::new(load)
            .arg(&device.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", load.display()))?;
        let commands: ChildStdin = child.stdin.take().context("taken once")?;
        let answers: ChildStdout = child.stdout.take().context("taken once")?;
        Self::new(
            Box::new(commands),
            Box::new(answers),
            Process::Host(Ending(child)),
        )
    }

    fn new(
        commands: Box<dyn Write>,
        answers: Box<dyn Read>,
        process: Process,
    ) -> anyhow::Result<Self> {
        let mut side = Self {
            stalled: false,
            commands,
            answers: BufReader::new(answers),
            process,
        };
        line::wait_for(&mut side.answers, &[READY])?;
        Ok(side)
    }

    /// Has a line worked off; what it took, unless the guest has stalled.
    fn work(&mut self, text: &str) -> anyhow::Result<Option<Took>> {
        if self.stalled {
            return Ok(None);
        }
        let before = process::exact_cpu_seconds(self.process.id())?;
        let start = Instant::now();
        writeln!(self.commands, "{text}")?;
        self.commands.flush()?;
        match line::wait_for(&mut self.answers, &[READY]) {
            Ok(came) => Ok(Some(Took {
                wall: (came - start).as_secs_f64(),
                cpu: process::exact_cpu_seconds(self.process.id())? - before,
            })),
            Err(error) if start.elapsed() < STALLED => Err(error),
            Err(_) => {
                self.stalled = true;
                Ok(None)
            }
        }
    }
}
