//! A VM that goes on by itself, and the commands for it.

use std::process::Command;

use coracle_tests::{Node, Run, until, vm};
use nix::sys::signal::Signal;
use serde_json::Value;

/// `coracle console` on a terminal, as a person has it.
pub(crate) struct Terminal(Run);

impl Terminal {
    pub(crate) fn join(node: &Node, vm: &str) -> anyhow::Result<Self> {
        let console = node.coracle(&["console", vm])?;
        let words = std::iter::once(console.get_program()).chain(console.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.display())).collect();
        // util-linux's `script` gives the program a terminal.
        let mut script = Command::new("script");
        script.args([
            "--quiet",
            "--flush",
            "--return",
            "--command",
            &words.join(" "),
            "/dev/null",
        ]);
        Ok(Self(Run::start(&mut script)?))
    }

    pub(crate) fn type_line(&mut self, text: &str) -> anyhow::Result<()> {
        self.0.type_in(&format!("{text}\r"))
    }

    pub(crate) fn wait_for(&self, text: &str) -> anyhow::Result<()> {
        self.0.wait_stdout(text)
    }

    /// Ctrl-].
    pub(crate) fn leave(mut self) -> anyhow::Result<()> {
        self.0.type_in("\x1d")?;
        self.0.finish()?.expect_code(0)?;
        Ok(())
    }
}

fn state(node: &Node, vm: &str) -> anyhow::Result<Value> {
    let finished = node.call(&["state", vm])?.expect_code(0)?;
    Ok(serde_json::from_str(&finished.stdout)?)
}

#[test]
fn a_detached_vm_is_listed_paused_resumed_and_stopped() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("echo")?;
    let manifest = vm("away").boots_from("root");
    let command = node.run(&manifest, &[("root", disk.path())], &["--detach"]);
    Run::start(&mut command?)?
        .finish()?
        .expect_code(0)?
        .expect_said(&["default/away runs"])?;

    let listed = node.call(&["ps", "--json"])?.expect_code(0)?;
    let listed: Value = serde_json::from_str(&listed.stdout)?;
    assert_eq!(listed[0]["vm"]["name"], "away");
    assert_eq!(listed[0]["status"], "running");
    assert_eq!(listed[0]["detached"], true);
    assert_eq!(state(&node, "away")?["status"], "running");
    assert_eq!(state(&node, "default/away")?["id"], "default/away");

    node.call(&["pause", "away"])?.expect_code(0)?;
    until("a paused guest", || {
        (state(&node, "away").ok()?["status"] == "paused").then_some(())
    })?;
    node.call(&["resume", "away"])?.expect_code(0)?;
    until("a running guest", || {
        (state(&node, "away").ok()?["status"] == "running").then_some(())
    })?;

    let mut terminal = Terminal::join(&node, "away")?;
    // What the guest said before anybody looked.
    terminal.wait_for("guest ready")?;
    terminal.type_line("hello out there")?;
    terminal.wait_for("hello out there")?;
    terminal.leave()?;
    let logs = node.call(&["logs", "away"])?.expect_code(0)?;
    assert!(logs.stdout.contains("guest ready"), "{}", logs.stdout);
    assert!(logs.stdout.contains("hello out there"), "{}", logs.stdout);
    assert!(
        logs.stderr.contains("qemu is ready"),
        "the shim's own log: {}",
        logs.stderr
    );

    let stopped = node.call(&["stop", "away"])?.expect_code(0)?;
    stopped.expect_said(&["Stopped"])?;
    let gone = node.call(&["state", "away"])?.expect_code(2)?;
    gone.expect_said(&["there is no VM away here"])?;
    node.expect_clean()
}

#[test]
fn a_detached_vm_that_does_not_listen_is_stopped_by_force() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("ignore-button")?;
    let manifest = vm("deaf")
        .boots_from("root")
        .with("terminationGracePeriodSeconds", 3600);
    let command = node.run(&manifest, &[("root", disk.path())], &["--detach"]);
    Run::start(&mut command?)?.finish()?.expect_code(0)?;
    node.call(&["stop", "deaf", "--force"])?.expect_code(0)?;
    node.expect_clean()
}

#[test]
fn a_detached_vm_that_cannot_start_is_an_error_and_leaves_nothing() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("ignore-button")?;
    let manifest = vm("never").boots_from("root").with("cpuModel", "pentium9");
    let command = node.run(&manifest, &[("root", disk.path())], &["--detach"]);
    let finished = Run::start(&mut command?)?.finish()?.expect_code(1)?;
    finished.expect_said(&["VM default/never", "QemuFailed"])?;
    node.expect_clean()
}

#[test]
fn a_run_in_the_foreground_is_stopped_from_another_terminal() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("power-button")?;
    let manifest = vm("shared").boots_from("root");
    let run = Run::start(&mut node.run(&manifest, &[("root", disk.path())], &[])?)?;
    run.wait_stdout("guest ready")?;
    node.call(&["stop", "shared"])?.expect_code(0)?;
    run.finish()?.expect_code(0)?;
    node.expect_clean()
}

#[test]
fn two_vms_run_side_by_side_and_end_apart() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disks = [
        node.guest_disk("power-button")?,
        node.guest_disk("power-button")?,
    ];
    let mut runs = Vec::new();
    for (name, disk) in ["left", "right"].into_iter().zip(&disks) {
        let run =
            Run::start(&mut node.run(&vm(name).boots_from(name), &[(name, disk.path())], &[])?)?;
        run.wait_stdout("guest ready")?;
        runs.push(run);
    }
    let addresses = ["left", "right"].map(|name| node.record(name));
    let [left, right] = addresses;
    assert_ne!(left?["report"]["podIp"], right?["report"]["podIp"]);
    let second = runs.pop().expect("two");
    second.signal(Signal::SIGINT)?;
    second.finish()?.expect_code(0)?;
    assert_eq!(state(&node, "left")?["status"], "running");
    let first = runs.pop().expect("one");
    first.signal(Signal::SIGINT)?;
    first.finish()?.expect_code(0)?;
    node.expect_clean()
}
