//! Putting an image onto a block device: `coracle-block import` beside
//! `qemu-img convert -n` and `dd`, same source and same loop device, all with
//! direct writes and a flush at the end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::device::Loop;
use crate::stats::{Pairs, Results};

const MIB: u64 = 1 << 20;
/// The source: half of it data without a pattern, half of it hole.
const SIZE: u64 = 512 * MIB;
const STRETCH: u64 = 4 * MIB;
/// Between two looks at a process's memory.
const LOOK: Duration = Duration::from_millis(1);

pub(crate) fn measure(block: &Path, pairs: usize, results: &mut Results) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let raw = source(&dir)?;
    let qcow2 = dir.path().join("source.qcow2");
    let convert = ["convert", "-f", "raw", "-O", "qcow2"];
    run(Command::new("qemu-img").args(convert).args([&raw, &qcow2]))?;
    let device = Loop::sparse(dir.path(), "device.img", SIZE)?;
    let import = |image: &Path| {
        let mut command = Command::new(block);
        command.arg("import").arg(image).arg(&device.path);
        command.args(["--overwrite", "--quiet"]);
        command
    };
    let qemu = |format: &str, image: &Path| {
        let mut command = Command::new("qemu-img");
        command.args(["convert", "-n", "-t", "none", "-f", format, "-O", "raw"]);
        command.arg(image).arg(&device.path);
        command
    };
    let dd = || {
        let mut command = Command::new("dd");
        command
            .arg(format!("if={}", raw.display()))
            .arg(format!("of={}", device.path));
        command.args(["bs=1M", "oflag=direct", "conv=fsync,notrunc", "status=none"]);
        command
    };
    let mut peak = vec![];
    let mut compare = |what: &str, image: &Path, other: &dyn Fn() -> Command| {
        let pair = in_turn(what, pairs, &|| import(image), other, &mut peak)?;
        results.pairs.push(pair);
        anyhow::Ok(())
    };
    compare("import of a raw image / qemu-img", &raw, &|| {
        qemu("raw", &raw)
    })?;
    compare("import of a raw image / dd", &raw, &dd)?;
    compare("import of a qcow2 image / qemu-img", &qcow2, &|| {
        qemu("qcow2", &qcow2)
    })?;
    let most = peak.into_iter().fold(0.0, f64::max);
    results.figure("import, peak memory", "MiB", vec![most], Some("≤ 64"));
    Ok(())
}

/// Runs both in turn, each first in every other pair: the first of the two finds
/// the device as the pair before has left it. `peak` is what ours was seen with.
fn in_turn(
    what: &str,
    pairs: usize,
    ours: &dyn Fn() -> Command,
    theirs: &dyn Fn() -> Command,
    peak: &mut Vec<f64>,
) -> anyhow::Result<Pairs> {
    let mut pair = Pairs::new(what, "s", Some("≤ 1.0"));
    // Not counted: they bring source and device to where every pair finds them.
    run(&mut ours())?;
    run(&mut theirs())?;
    for number in 0..pairs {
        let mut import = || {
            let (seconds, mib) = run(&mut ours())?;
            pair.coracle.push(seconds);
            peak.push(mib);
            anyhow::Ok(())
        };
        if number % 2 == 0 {
            import()?;
            pair.bare.push(run(&mut theirs())?.0);
        } else {
            pair.bare.push(run(&mut theirs())?.0);
            import()?;
        }
    }
    Ok(pair)
}

/// A raw image in `dir`.
fn source(dir: &TempDir) -> anyhow::Result<PathBuf> {
    let path = dir.path().join("source.raw");
    let file = File::create(&path)?;
    file.set_len(SIZE)?;
    let mut noise = vec![0; usize::try_from(STRETCH)?];
    let mut random = File::open("/dev/urandom")?;
    for at in (0..SIZE).step_by(2 * usize::try_from(STRETCH)?) {
        std::io::Read::read_exact(&mut random, &mut noise)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &noise, at)?;
    }
    file.sync_all()?;
    Ok(path)
}

/// Seconds until it ended, and the most memory it was seen with, in MiB.
fn run(command: &mut Command) -> anyhow::Result<(f64, f64)> {
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0;
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        peak = high_water(&status).map_or(peak, |now| f64::max(peak, now));
        std::thread::sleep(LOOK);
    };
    ensure!(ended.success(), "{command:?}: {ended}");
    Ok((start.elapsed().as_secs_f64(), peak))
}

/// `VmHWM` in MiB; a process that has ended has none.
fn high_water(status: &str) -> Option<f64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u32 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(f64::from(kib) / 1024.0)
}
