//! From the growth of a device on the host to the guest that sees it, through
//! the shim.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use coracle_api::machine::DiskSource;

use crate::device::Loop;
use crate::guest;
use crate::line;
use crate::shim::{Pod, Setup};
use crate::stats::Results;

const MIB: u64 = 1 << 20;

/// `sizer` is the boot sector that says its disk's size in sectors whenever it
/// is another one (tests/guests/size.S).
pub(crate) fn measure(
    setup: &Setup,
    sizer: &Path,
    times: usize,
    results: &mut Results,
) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let image = dir.path().join("grows.img");
    std::fs::copy(sizer, &image).with_context(|| format!("copying {}", sizer.display()))?;
    let mut bytes = std::fs::metadata(&image)?.len();
    let device = Loop::on(image)?;
    let pod = Pod::new(None)?;
    let mut machine = guest::boots(&pod.disk());
    machine.disks[0].source = DiskSource::Block {
        path: device.path.clone(),
    };
    let mut shim = pod.start(setup, &machine)?;
    line::drain(shim.stderr()?);
    let mut console = shim.stdout()?;
    let says = |bytes: u64| format!("size {:08x}", bytes / 512);
    line::wait_for(&mut console, &[&says(bytes)])?;
    let mut took = Vec::new();
    for _ in 0..times {
        bytes += MIB;
        let start = Instant::now();
        device.grow(bytes)?;
        let came = line::wait_for(&mut console, &[&says(bytes)])?;
        took.push((came - start).as_secs_f64() * 1000.0);
    }
    results.figure(
        "from a device's growth to its guest",
        "ms",
        took,
        Some("≤ 1000"),
    );
    Ok(())
}
