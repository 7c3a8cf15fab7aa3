//! The guest outlives what started it: containerd and the device plugin.

use coracle_tests::{Node, Run, until, vm};
use nix::sys::signal::Signal;

use crate::detached::Terminal;

#[test]
fn the_guest_goes_on_when_containerd_is_killed_under_a_run() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("echo")?;
    let manifest = vm("survivor").boots_from("root");
    let run = Run::start(&mut node.run(&manifest, &[("root", disk.path())], &[])?)?;
    run.wait_stdout("guest ready")?;
    let qemu = node.qemu()?;
    let first = node.containerd()?;
    first.signal(Signal::SIGKILL);
    let second = until("another containerd", || {
        node.containerd().ok().filter(|now| now.pid != first.pid)
    })?;
    assert!(second.is_alive() && qemu.is_alive());

    let mut terminal = Terminal::join(&node, "survivor")?;
    terminal.type_line("still there")?;
    terminal.wait_for("still there")?;
    // The run shows it too: it has joined the console again.
    run.wait_stdout("still there")?;
    terminal.leave()?;
    run.signal(Signal::SIGINT)?;
    let finished = run.finish()?.expect_code(0)?;
    assert!(
        finished.stdout.contains("guest powers off"),
        "{}",
        finished.stdout
    );
    assert_eq!(
        finished.stdout.matches("guest ready").count(),
        1,
        "{}",
        finished.stdout
    );
    node.expect_clean()
}

#[test]
fn a_detached_guest_goes_on_without_containerd_and_can_be_stopped_after() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("power-button")?;
    let manifest = vm("alone").boots_from("root");
    let volumes = [("root", disk.path())];
    Run::start(&mut node.run(&manifest, &volumes, &["--detach"])?)?
        .finish()?
        .expect_code(0)?;
    let qemu = node.qemu()?;
    let first = node.containerd()?;
    first.signal(Signal::SIGKILL);
    until("the end of containerd", || {
        (!first.is_alive()).then_some(())
    })?;
    assert!(qemu.is_alive());
    let state = node.call(&["state", "alone"])?.expect_code(0)?;
    assert!(state.stdout.contains("\"running\""), "{}", state.stdout);
    node.call(&["stop", "alone"])?
        .expect_code(0)?
        .expect_said(&["Stopped"])?;
    node.expect_clean()
}
