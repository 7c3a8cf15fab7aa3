//! Facts about a process from /proc.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::{SysconfVar, sysconf};

/// A state that does not come within this time never does.
const PATIENCE: Duration = Duration::from_secs(120);
/// Short, because it is added to what is measured.
const POLL: Duration = Duration::from_micros(200);

/// Seconds of CPU time that a process has used, its ended threads included.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat
        .rsplit_once(')')
        .context("stat has a name in parentheses")?;
    // utime and stime are fields 14 and 15 of proc(5); the state is field 3.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| -> anyhow::Result<f64> {
        let ticks: u32 = fields
            .get(number - 3)
            .context("stat is complete")?
            .parse()?;
        Ok(f64::from(ticks))
    };
    let hertz = sysconf(SysconfVar::CLK_TCK)?.context("the kernel has a clock tick")?;
    Ok((field(14)? + field(15)?) / f64::from(u32::try_from(hertz)?))
}

/// Seconds of CPU time of the threads that a process has now, to the
/// nanosecond, where `stat` counts in hundredths.
pub(crate) fn exact_cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has just ended is not counted.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        let nanoseconds = text.split(' ').next().unwrap_or_default();
        sum += nanoseconds.parse::<f64>().unwrap_or(0.0) / 1e9;
    }
    Ok(sum)
}

/// Seconds of CPU time that the children which were waited for have used, and
/// theirs.
pub(crate) fn children_cpu_seconds() -> anyhow::Result<f64> {
    let usage: Usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: TimeVal| -> anyhow::Result<f64> {
        let micros = u32::try_from(time.num_microseconds() % 1_000_000)?;
        Ok(f64::from(u32::try_from(time.num_seconds())?) + f64::from(micros) / 1e6)
    };
    Ok(seconds(usage.user_time())? + seconds(usage.system_time())?)
}

/// A number of KiB from `/proc/<pid>/smaps_rollup`, in MiB.
pub(crate) fn rollup_mib(pid: u32, keys: &[&str]) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let mut sum = 0;
    for key in keys {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        sum += number
            .with_context(|| format!("{key} in smaps_rollup"))?
            .trim()
            .parse::<u32>()?;
    }
    Ok(f64::from(sum) / 1024.0)
}

/// How often all threads of a process have gone to sleep.
pub(crate) fn voluntary_switches(pid: u32) -> anyhow::Result<u32> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line
            .context("a count of context switches")?
            .trim()
            .parse::<u32>()?;
    }
    Ok(sum)
}

/// How many threads a process has.
pub(crate) fn threads(pid: u32) -> anyhow::Result<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))?.count();
    Ok(u32::try_from(tasks)?)
}

/// The first child of a process whose program has this name.
pub(crate) fn child(parent: u32, program: &str) -> Option<u32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let its_parent: u32 = stat
            .rsplit_once(')')?
            .1
            .split_ascii_whitespace()
            .nth(1)?
            .parse()
            .ok()?;
        let arguments = arguments(pid).ok()?;
        let is_program = arguments.first()?.rsplit('/').next()? == program;
        (its_parent == parent && is_program).then_some(pid)
    })
}

/// Whether a process is gone, or nothing but a zombie is left of it: its files
/// are closed then. (Its command line is gone before they are, and its first
/// thread may be a zombie before the others have ended.)
pub(crate) fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().next());
    match state {
        None => true,
        Some("Z" | "X") => threads(pid).is_ok_and(|count| count <= 1),
        Some(_) => false,
    }
}

/// A process's command line.
pub(crate) fn arguments(pid: u32) -> anyhow::Result<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline"))?;
    let text = bytes.strip_suffix(&[0]).context("a command line")?;
    Ok(text
        .split(|byte| *byte == 0)
        .map(|a| String::from_utf8_lossy(a).into_owned())
        .collect())
}

/// Waits until `look` finds something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if start.elapsed() > PATIENCE {
            bail!("{what}: not within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(POLL);
    }
}
