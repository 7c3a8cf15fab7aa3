//! From `coracle run`, containerd and images warm, to the guest's first line,
//! beside bare qemu with the same machine; and where the difference goes,
//! stage by stage, as the command itself reports it.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bare::Bare;
use coracle_benches::{HELLO, median};

use crate::guest::{Linux, Then};
use crate::shim::{Pod, Setup};
use crate::stats::{Pairs, Results};
use crate::{line, process};

/// No stage of ours may take longer.
const STAGE_GOAL: &str = "≤ 300";

pub(crate) fn measure(
    coracle: &Path,
    setup: &Setup,
    linux: &Linux,
    pairs: usize,
    results: &mut Results,
) -> anyhow::Result<()> {
    let arguments = arguments(setup, linux)?;
    let node = Node::new(coracle, linux)?;
    // An idle VM keeps containerd running between the others, and has its
    // images unpacked.
    node.keep_warm()?;
    node.boot()?;
    let mut wall = Pairs::new("coracle run to userspace, wall", "s", None);
    let mut stages: Vec<(String, Vec<f64>)> = Vec::new();
    for pair in 0..pairs {
        let theirs_first = pair % 2 == 1;
        if theirs_first {
            wall.bare.push(bare(&arguments)?);
        }
        wall.coracle.push(node.boot()?);
        collect(&node.stages()?, &mut stages);
        if !theirs_first {
            wall.bare.push(bare(&arguments)?);
        }
    }
    let difference = median(&wall.coracle) - median(&wall.bare);
    results.pairs.push(wall);
    let overhead = vec![difference * 1000.0];
    results.figure("coracle run over bare qemu, medians", "ms", overhead, None);
    for (stage, values) in stages {
        results.figure(format!("  stage {stage}"), "ms", values, Some(STAGE_GOAL));
    }
    Ok(())
}

/// qemu's arguments for the machine, from a shim on the host.
fn arguments(setup: &Setup, linux: &Linux) -> anyhow::Result<Vec<String>> {
    let pod = Pod::new(None)?;
    let mut shim = pod.start(setup, &linux.machine(Then::PowerOff, &pod.disk()))?;
    line::drain(shim.stdout()?);
    line::drain(shim.stderr()?);
    let mut arguments = process::arguments(shim.qemu()?)?;
    // The disk is gone with the pod; the guest never looks at it.
    let disk = pod.disk().display().to_string();
    for argument in &mut arguments {
        if argument.contains(&disk) {
            *argument =
                json!({"driver": "null-co", "node-name": "disk0", "size": 16 << 20}).to_string();
        }
    }
    Ok(arguments)
}

fn bare(arguments: &[String]) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut bare = Bare::start(arguments)?;
    bare.cont()?;
    let mut console = bare.serial()?;
    let came = line::wait_for(&mut console, &[HELLO])?;
    line::drain(console);
    bare.finish()?;
    Ok((came - start).as_secs_f64())
}

fn collect(run: &[(String, f64)], stages: &mut Vec<(String, Vec<f64>)>) {
    for (name, value) in run {
        match stages.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(*value),
            None => stages.push((name.clone(), vec![*value])),
        }
    }
}

/// A state directory of our own, with two VMs.
struct Node {
    dir: TempDir,
    coracle: PathBuf,
}

impl Node {
    fn new(coracle: &Path, linux: &Linux) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("coracle-bench.")
            .tempdir_in("/run")?;
        let kernel = dir.path().join("kernel");
        fs::create_dir(&kernel)?;
        for file in ["vmlinuz", "initrd"] {
            fs::copy(linux.dir.join(file), kernel.join(file))?;
        }
        for (name, then) in [("boots", Then::PowerOff), ("stays", Then::Stay)] {
            fs::write(dir.path().join(name), manifest(name, then))?;
        }
        Ok(Self {
            dir,
            coracle: coracle.to_path_buf(),
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let path = |name: &str| self.dir.path().join(name);
        let mut command = Command::new(&self.coracle);
        command
            .args(arguments)
            .arg("--state-dir")
            .arg(path("state"))
            .arg("--containerd-root")
            .arg(path("root"));
        command
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Command {
        let path = |name: &str| self.dir.path().join(name);
        let mut command = self.command(&["run"]);
        let volume = format!("kernel={}", path("kernel").display());
        command.arg(path(name)).args(["--volume", &volume]);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn keep_warm(&self) -> anyhow::Result<()> {
        let output = self.run("stays", &["--detach"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "coracle run --detach: {}\n{said}",
            output.status
        );
        Ok(())
    }

    /// Boots the guest; the seconds until its first line.
    fn boot(&self) -> anyhow::Result<f64> {
        let report = self.dir.path().join("report.json").display().to_string();
        let start = Instant::now();
        let mut child = self
            .run("boots", &["--report", &report])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", self.coracle.display()))?;
        line::drain(child.stderr.take().context("taken once")?);
        let mut console = BufReader::new(child.stdout.take().context("taken once")?);
        let came = line::wait_for(&mut console, &[HELLO]);
        line::drain(console);
        let status = child.wait()?;
        let came = came?;
        ensure!(status.success(), "coracle run ended with {status}");
        Ok((came - start).as_secs_f64())
    }

    /// The stages of the last boot.
    fn stages(&self) -> anyhow::Result<Vec<(String, f64)>> {
        let bytes = fs::read(self.dir.path().join("report.json"))?;
        let report: Value = serde_json::from_slice(&bytes)?;
        let stages = report["stages"]
            .as_array()
            .context("the report has stages")?;
        let stage =
            |stage: &Value| Some((stage["name"].as_str()?.to_owned(), stage["ms"].as_f64()?));
        Ok(stages.iter().filter_map(stage).collect())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.command(&["stop", "stays"]).output();
        let _ = self.command(&["clean"]).output();
    }
}

fn manifest(name: &str, then: Then) -> String {
    let vm = json!({
        "apiVersion": "coracle.dev/v1alpha1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {
            "runPolicy": "Once",
            "accelerator": "Emulation",
            "memory": "256Mi",
            "firmware": {"kernel": {
                "claim": {"name": "kernel"},
                "path": "vmlinuz",
                "initrd": "initrd",
                "cmdline": Linux::cmdline(then),
            }},
            "disks": [{"name": "root", "ephemeral": {"size": "16Mi"}, "cache": "Writeback"}],
            "terminationGracePeriodSeconds": 10,
        },
    });
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "kernel"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    format!("{vm:#}\n---\n{claim:#}\n")
}
