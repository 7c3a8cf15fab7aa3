//! What the programs that stay cost while nothing happens: memory, threads and
//! wakeups of the shim beside an idle guest, memory of the device plugin with
//! a thousand devices registered.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use coracle_api::names::RESOURCE_KVM;
use coracle_kubelet::{Kubelet, Options};

use coracle_benches::HELLO;

use crate::guest::{Linux, Then};
use crate::shim::{Pod, Setup};
use crate::stats::Results;
use crate::{line, process};

/// How long wakeups are counted.
const IDLE: Duration = Duration::from_secs(5);
const DEVICES: usize = 1000;
/// A plugin registers at once; a busy machine takes longer.
const REGISTERED_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn measure(
    setup: &Setup,
    linux: &Linux,
    programs: &Path,
    results: &mut Results,
) -> anyhow::Result<()> {
    shim(setup, linux, results)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(plugin(&programs.join("coracle-device-plugin"), results))
}

fn shim(setup: &Setup, linux: &Linux, results: &mut Results) -> anyhow::Result<()> {
    let pod = Pod::new(None)?;
    let mut shim = pod.start(setup, &linux.machine(Then::Stay, &pod.disk()))?;
    line::drain(shim.stderr()?);
    let mut console = shim.stdout()?;
    line::wait_for(&mut console, &[HELLO])?;
    line::drain(console);
    let pid = shim.pid();
    // The last bytes of the console are on their way.
    std::thread::sleep(Duration::from_millis(500));
    let before = process::voluntary_switches(pid)?;
    std::thread::sleep(IDLE);
    let woken = process::voluntary_switches(pid)? - before;
    let figure = |keys: &[&str]| process::rollup_mib(pid, keys);
    results.figure("shim, PSS", "MiB", vec![figure(&["Pss"])?], Some("≤ 2"));
    results.figure(
        "shim, private dirty",
        "MiB",
        vec![figure(&["Private_Dirty"])?],
        Some("≤ 1"),
    );
    results.figure("shim, RSS", "MiB", vec![figure(&["Rss"])?], None);
    results.figure(
        "shim, threads",
        "",
        vec![f64::from(process::threads(pid)?)],
        Some("≤ 2"),
    );
    results.figure(
        "shim, wakeups in 5 idle seconds",
        "",
        vec![f64::from(woken)],
        Some("0"),
    );
    let qemu = process::rollup_mib(shim.qemu()?, &["Pss"])?;
    results.figure(
        "its qemu with a 256 MiB Linux, PSS",
        "MiB",
        vec![qemu],
        None,
    );
    Ok(())
}

async fn plugin(program: &Path, results: &mut Results) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("coracle-bench.")
        .tempdir_in("/run")?;
    let kubelet = Kubelet::serve(&dir.path().join("kubelet"), Options::default()).await?;
    let mut plugin = Command::new(program)
        .arg("run")
        .arg("--kubelet-dir")
        .arg(dir.path().join("kubelet"))
        .arg("--node-dir")
        .arg(dir.path().join("nodes"))
        .args(["--kvm-count", &DEVICES.to_string(), "--kvm-probe", "open"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let all = |devices: &[coracle_kubelet::Device]| devices.len() == DEVICES;
    let listed = kubelet.wait_for(RESOURCE_KVM, all, REGISTERED_WITHIN).await;
    let measured = listed.map_err(anyhow::Error::from).and_then(|_| {
        let figure = |keys: &[&str]| process::rollup_mib(plugin.id(), keys);
        Ok((figure(&["Pss"])?, figure(&["Private_Dirty"])?))
    });
    let _ = plugin.kill();
    let _ = plugin.wait();
    kubelet.stop().await;
    let (pss, dirty) = measured?;
    results.figure(
        "device plugin with 1000 devices, PSS",
        "MiB",
        vec![pss],
        Some("≤ 6"),
    );
    results.figure("device plugin, private dirty", "MiB", vec![dirty], None);
    Ok(())
}
