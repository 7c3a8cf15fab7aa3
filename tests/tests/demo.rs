//! Ctrl-C amid `make demo`, as a terminal sends it: to every process of the
//! group. Whatever the demo is at, it leaves nothing behind.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use coracle_tests::{Run, processes, skip};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};

/// Exit code after a SIGINT, by the shell's convention.
const INTERRUPTED: i32 = 130;

#[test]
fn an_interrupt_at_any_stage_of_the_demo_leaves_nothing() -> anyhow::Result<()> {
    if !geteuid().is_root() {
        skip("the demo needs root");
        return Ok(());
    }
    let stages: [fn(&Run) -> anyhow::Result<()>; 3] = [
        |run| run.wait_stderr("Probing /dev/kvm"),
        |run| run.wait_stderr("container "),
        |run| run.wait_stdout("coracle guest: boot 1"),
    ];
    for (index, reached) in stages.iter().enumerate() {
        interrupt(index, reached)?;
    }
    Ok(())
}

fn interrupt(stage: usize, reached: impl Fn(&Run) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let work = tempfile::Builder::new().prefix("coracle-demo-").tempdir()?;
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/run.sh");
    let run = Run::start(
        Command::new(demo)
            .env("TMPDIR", work.path())
            .process_group(0),
    )?;
    reached(&run)?;
    killpg(Pid::from_raw(i32::try_from(run.pid())?), Signal::SIGINT)?;
    run.finish()?.expect_code(INTERRUPTED)?;
    expect_nothing_left(work.path()).map_err(|error| error.context(format!("stage {stage}")))
}

fn expect_nothing_left(work: &Path) -> anyhow::Result<()> {
    let name = work.display().to_string();
    let left: Vec<_> = fs::read_dir(work)?.filter_map(Result::ok).collect();
    anyhow::ensure!(left.is_empty(), "files: {left:?}");
    let running = processes(|process| process.arguments.iter().any(|word| word.contains(&name)));
    anyhow::ensure!(running.is_empty(), "processes: {running:?}");
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    anyhow::ensure!(!mounts.contains(&name), "mounts: {mounts}");
    let loops = Command::new("losetup")
        .args(["--list", "--output", "BACK-FILE"])
        .output()?;
    let loops = String::from_utf8_lossy(&loops.stdout).into_owned();
    anyhow::ensure!(!loops.contains(&name), "loop devices: {loops}");
    for pod in ["default_web", "default_tiny"] {
        let pod = Path::new("/run/coracle/local/pods").join(pod);
        anyhow::ensure!(!pod.exists(), "{} is still there", pod.display());
    }
    Ok(())
}
