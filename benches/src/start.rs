//! From the start of the shim to a running virtual CPU, beside bare qemu with
//! the same arguments: from its start to the answer to `cont`.

use std::path::Path;
use std::time::Instant;

use crate::bare::Bare;
use crate::guest;
use crate::shim::{Pod, Setup};
use crate::stats::{Pairs, Results};
use crate::{line, process};

/// What the shim logs when the virtual CPU runs.
const RUNNING: [&str; 2] = ["state changed", "to=\"running\""];

pub(crate) fn measure(
    setup: &Setup,
    spinner: &Path,
    pairs: usize,
    results: &mut Results,
) -> anyhow::Result<()> {
    let pod = Pod::new(Some(spinner))?;
    let machine = guest::boots(&pod.disk());
    let ours = || -> anyhow::Result<(f64, Vec<String>)> {
        let start = Instant::now();
        let mut shim = pod.start(setup, &machine)?;
        line::drain(shim.stdout()?);
        let mut log = shim.stderr()?;
        let came = line::wait_for(&mut log, &RUNNING)?;
        let arguments = process::arguments(shim.qemu()?)?;
        line::drain(log);
        Ok(((came - start).as_secs_f64() * 1000.0, arguments))
    };
    let (_, arguments) = ours()?;
    let theirs = || -> anyhow::Result<f64> {
        let start = Instant::now();
        let mut bare = Bare::start(&arguments)?;
        bare.cont()?;
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    };
    let mut measure = Pairs::new("start to running (QMP)", "ms", Some("≤ 1.25"));
    for pair in 0..pairs {
        if pair % 2 == 0 {
            measure.coracle.push(ours()?.0);
            measure.bare.push(theirs()?);
        } else {
            measure.bare.push(theirs()?);
            measure.coracle.push(ours()?.0);
        }
    }
    results.pairs.push(measure);
    Ok(())
}
