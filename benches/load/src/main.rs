//! `coracle-bench-load DEVICE`: reads and writes a block device, around every
//! cache, as the lines on its standard input say, and says after each that it
//! is done.
//!
//! The same program loads a guest's disk (it is that guest's first process) and
//! the host's device. It does not measure: who sends the lines has the clock, and
//! a guest's own cannot be trusted under emulation.

mod work;

use std::env;
use std::fs::File;
use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::ExitCode;

use anyhow::Context as _;
use nix::libc::O_DIRECT;

use work::Work;

/// Said before the first line is read, and after each was worked off.
const READY: &str = "coracle-bench-load: ready";

fn main() -> ExitCode {
    let Some(device) = env::args_os().nth(1) else {
        let _ = writeln!(std::io::stderr(), "usage: coracle-bench-load DEVICE");
        return ExitCode::from(2);
    };
    let device = device.to_string_lossy();
    match run(&device) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // On standard output too: a guest's console is all there is of it.
            let _ = writeln!(stdout(), "coracle-bench-load: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(device: &str) -> anyhow::Result<()> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(O_DIRECT)
        .open(device)
        .with_context(|| format!("opening {device}"))?;
    let say = || {
        let mut out = stdout().lock();
        writeln!(out, "{READY}").and_then(|()| out.flush())
    };
    say()?;
    for line in stdin().lock().lines() {
        let work: Work = line?.parse()?;
        work.perform(&file)
            .with_context(|| format!("{work:?} on {device}"))?;
        say()?;
    }
    Ok(())
}
