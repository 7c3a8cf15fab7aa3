//! What a guest's disk does: the guest's program reads and writes it through
//! the options that the shim gives qemu, beside the best that a person would
//! give it by hand, and beside the same program on the host's device.
//!
//! All sides are there at once, each with a device of the same kind, and work in
//! turn; then they begin anew with their devices exchanged. The devices are in
//! memory, where qemu's own part shows most.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use coracle_api::machine::{Disk, DiskSource};
use serde_json::json;

use crate::bare::Bare;
use crate::device::Loop;
use crate::guest::{Linux, Then};
use crate::shim::{Pod, Setup};
use crate::stats::{Pairs, Results, median};
use crate::{line, process};

/// Size of a device.
const SIZE: u64 = 512 << 20;
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
/// The sides: ours, what people give qemu, the host.
const OURS: usize = 0;
const BY_HAND: [(&str, &str, bool); 3] = [
    ("native", "native", false),
    ("native, iothread", "native", true),
    ("io_uring, iothread", "io_uring", true),
];
const HOST: usize = BY_HAND.len() + 1;
const SIDES: usize = HOST + 1;

/// What a piece of work took, in seconds.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    /// CPU time of the side's process: what a busy machine changes least.
    cpu: f64,
}

/// Of each work, of each side, of each round.
type Times = [[Vec<Took>; SIDES]; WORK.len()];

pub(crate) fn measure(
    setup: &Setup,
    linux: &Linux,
    load: &Path,
    rounds: usize,
    results: &mut Results,
) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("coracle-bench.")
        .tempdir_in(MEMORY)?;
    let devices = (0..SIDES)
        .map(|side| Loop::full(dir.path(), &format!("device{side}.img"), SIZE))
        .collect::<anyhow::Result<Vec<Loop>>>()?;
    let mut times = Times::default();
    for pass in 0..2 {
        let device = |side: usize| match pass {
            0 => &devices[side],
            _ => &devices[SIDES - 1 - side],
        };
        let mut sides = start(setup, linux, load, device)?;
        // Not counted: it warms the caches, the guest's translated code among
        // them.
        round(&mut sides, false, None)?;
        for number in 0..rounds {
            round(&mut sides, number % 2 == 1, Some(&mut times))?;
        }
    }
    tell(&times, results);
    Ok(())
}

/// All the work on every side, each work on all sides in turn.
fn round(sides: &mut [Side], backwards: bool, mut times: Option<&mut Times>) -> anyhow::Result<()> {
    for (work, (_, line)) in WORK.iter().enumerate() {
        for turn in 0..SIDES {
            let side = if backwards { SIDES - 1 - turn } else { turn };
            let took = sides[side].work(line)?;
            if let Some(times) = &mut times {
                times[work][side].push(took);
            }
        }
    }
    Ok(())
}

fn tell(times: &Times, results: &mut Results) {
    let of = |took: &[Took], value: fn(&Took) -> f64| took.iter().map(value).collect::<Vec<_>>();
    for ((name, _), sides) in WORK.iter().zip(times) {
        let mut against = |side: usize, what: &str, value: fn(&Took) -> f64, goal| {
            let pair = Pairs {
                coracle: of(&sides[OURS], value),
                bare: of(&sides[side], value),
                ..Pairs::new(&format!("{name} / {what}"), "s", goal)
            };
            results.pairs.push(pair);
        };
        let wall = |side: &usize| median(&of(&sides[*side], |took| took.wall));
        let best = (OURS + 1..HOST).min_by(|one, other| wall(one).total_cmp(&wall(other)));
        let best = best.unwrap_or(OURS + 1);
        let by_hand = BY_HAND[best - 1].0;
        // 0.98 of its speed.
        against(best, by_hand, |took| took.wall, Some("≤ 1.02"));
        against(best, &format!("{by_hand}, CPU"), |took| took.cpu, None);
        against(HOST, "host", |took| took.wall, None);
    }
}

fn start<'a>(
    setup: &Setup,
    linux: &Linux,
    load: &Path,
    device: impl Fn(usize) -> &'a Loop,
) -> anyhow::Result<Vec<Side>> {
    let ours = arguments(setup, linux, device(OURS))?;
    let mut sides = vec![Side::guest(&ours)?];
    for (index, (_, aio, iothread)) in BY_HAND.into_iter().enumerate() {
        let device = device(index + 1);
        sides.push(Side::guest(&by_hand(&ours, device, aio, iothread)?)?);
    }
    sides.push(Side::host(load, device(HOST))?);
    Ok(sides)
}

/// What the shim gives qemu for this device.
fn arguments(setup: &Setup, linux: &Linux, device: &Loop) -> anyhow::Result<Vec<String>> {
    let pod = Pod::new(None)?;
    let mut machine = linux.machine(Then::Load, &pod.disk());
    let path = device.path.clone();
    machine.disks = vec![Disk::plain("data", DiskSource::Block { path })];
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
        Self::new(Box::new(commands), Box::new(answers), Process::Guest(bare))
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
            commands,
            answers: BufReader::new(answers),
            process,
        };
        line::wait_for(&mut side.answers, &[READY])?;
        Ok(side)
    }

    /// Has a line worked off; what it took.
    fn work(&mut self, text: &str) -> anyhow::Result<Took> {
        let before = process::exact_cpu_seconds(self.process.id())?;
        let start = Instant::now();
        writeln!(self.commands, "{text}")?;
        self.commands.flush()?;
        let came = line::wait_for(&mut self.answers, &[READY])?;
        Ok(Took {
            wall: (came - start).as_secs_f64(),
            cpu: process::exact_cpu_seconds(self.process.id())? - before,
        })
    }
}
