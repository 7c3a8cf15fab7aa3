//! From the start of the shim to the first line of the guest's first process,
//! beside bare qemu with the same arguments and guest.

use std::time::Instant;

use crate::bare::Bare;
use coracle_benches::HELLO;

use crate::guest::{Linux, Then};
use crate::shim::{Pod, Setup, Shim};
use crate::stats::{Pairs, Results};
use crate::{line, process};

/// One boot.
struct Boot {
    /// Until the line, in seconds.
    wall: f64,
    /// CPU seconds of qemu until the line.
    qemu: f64,
    /// CPU seconds of everything until the end.
    whole: f64,
}

pub(crate) fn measure(
    setup: &Setup,
    linux: &Linux,
    pairs: usize,
    results: &mut Results,
) -> anyhow::Result<()> {
    let pod = Pod::new(None)?;
    let machine = linux.machine(Then::PowerOff, &pod.disk());
    // Not counted: it warms the caches and tells the arguments.
    let arguments = {
        let shim = pod.start(setup, &machine)?;
        let arguments = process::arguments(shim.qemu()?)?;
        of_shim(shim, Instant::now())?;
        arguments
    };
    let mut wall = Pairs::new("shim to userspace, wall", "s", None);
    let mut qemu = Pairs::new("shim to userspace, qemu CPU", "s", Some("≤ 1.02"));
    let mut whole = Pairs::new("whole life, CPU of shim and qemu", "s", None);
    for pair in 0..pairs {
        let ours = || -> anyhow::Result<Boot> {
            let start = Instant::now();
            of_shim(pod.start(setup, &machine)?, start)
        };
        let (ours, theirs) = if pair % 2 == 0 {
            let ours = ours()?;
            (ours, bare(&arguments)?)
        } else {
            let theirs = bare(&arguments)?;
            (ours()?, theirs)
        };
        for (measure, ours, theirs) in [
            (&mut wall, ours.wall, theirs.wall),
            (&mut qemu, ours.qemu, theirs.qemu),
            (&mut whole, ours.whole, theirs.whole),
        ] {
            measure.coracle.push(ours);
            measure.bare.push(theirs);
        }
    }
    results.pairs.extend([wall, qemu, whole]);
    Ok(())
}

fn of_shim(mut shim: Shim, start: Instant) -> anyhow::Result<Boot> {
    let before = process::children_cpu_seconds()?;
    line::drain(shim.stderr()?);
    let mut console = shim.stdout()?;
    let came = line::wait_for(&mut console, &[HELLO])?;
    let qemu = process::cpu_seconds(shim.qemu()?)?;
    line::drain(console);
    shim.finish()?;
    let whole = process::children_cpu_seconds()? - before;
    Ok(Boot {
        wall: (came - start).as_secs_f64(),
        qemu,
        whole,
    })
}

fn bare(arguments: &[String]) -> anyhow::Result<Boot> {
    let before = process::children_cpu_seconds()?;
    let start = Instant::now();
    let mut bare = Bare::start(arguments)?;
    bare.cont()?;
    let mut console = bare.serial()?;
    let came = line::wait_for(&mut console, &[HELLO])?;
    let qemu = process::cpu_seconds(bare.pid())?;
    line::drain(console);
    bare.finish()?;
    let whole = process::children_cpu_seconds()? - before;
    Ok(Boot {
        wall: (came - start).as_secs_f64(),
        qemu,
        whole,
    })
}
