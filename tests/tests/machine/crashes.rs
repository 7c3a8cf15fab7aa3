//! Ends that nobody asked for.

use coracle_tests::{Node, Pattern, Run, until, vm};
use nix::sys::signal::Signal;

#[test]
fn a_guest_that_panics_fails_the_run() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("panic")?;
    let manifest = vm("panics").boots_from("root");
    let run = Run::start(&mut node.run(&manifest, &[("root", disk.path())], &[])?)?;
    let finished = run.finish()?.expect_code(1)?;
    assert!(
        finished.stdout.contains("guest panics"),
        "{}",
        finished.stdout
    );
    finished.expect_said(&["VM default/panics", "GuestPanicked"])?;
    assert_eq!(
        node.report()?["end"]["termination"]["reason"],
        "GuestPanicked"
    );
    node.expect_clean()
}

#[test]
fn a_qemu_that_is_killed_fails_the_run() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("ignore-button")?;
    let manifest = vm("bereft").boots_from("root");
    let run = Run::start(&mut node.run(&manifest, &[("root", disk.path())], &[])?)?;
    run.wait_stdout("guest ready")?;
    node.qemu()?.signal(Signal::SIGKILL);
    let finished = run.finish()?.expect_code(1)?;
    finished.expect_said(&["VM default/bereft", "QemuFailed"])?;
    assert_eq!(node.report()?["end"]["termination"]["reason"], "QemuFailed");
    node.expect_clean()
}

#[test]
fn a_qemu_that_ends_at_once_is_quoted() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("ignore-button")?;
    let manifest = vm("modelled")
        .boots_from("root")
        .with("cpuModel", "pentium9");
    let run = Run::start(&mut node.run(&manifest, &[("root", disk.path())], &[])?)?;
    let finished = run.finish()?.expect_code(1)?;
    finished.expect_said(&["VM default/modelled", "QemuFailed", "pentium9"])?;
    node.expect_clean()
}

#[test]
fn a_shim_that_is_killed_takes_qemu_with_it_and_the_disk_stays_whole() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("write-sector")?;
    let before = disk.read()?;
    let manifest = vm("orphan").boots_from("root");
    let command = || node.run(&manifest, &[("root", disk.path())], &[]);
    let run = Run::start(&mut command()?)?;
    run.wait_stdout("guest wrote its disk")?;
    let qemu = node.qemu()?;
    node.shim()?.signal(Signal::SIGKILL);
    until("the end of qemu", || (!qemu.is_alive()).then_some(()))?;
    let finished = run.finish()?;
    assert_eq!(finished.code, Some(137), "{finished:?}");
    finished.expect_said(&["killed by signal 9"])?;
    assert!(
        disk.read()? == Pattern::on(&before),
        "the disk has bytes that nobody wrote"
    );
    node.expect_clean()?;

    let run = Run::start(&mut command()?)?;
    run.wait_stdout("guest wrote its disk")?;
    run.signal(Signal::SIGINT)?;
    run.finish()?.expect_code(0)?;
    node.expect_clean()
}

#[test]
fn what_a_killed_command_left_is_removed_by_clean() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("power-button")?;
    let manifest = vm("lost").boots_from("root");
    let run = Run::start(&mut node.run(&manifest, &[("root", disk.path())], &[])?)?;
    run.wait_stdout("guest ready")?;
    let qemu = node.qemu()?;
    run.signal(Signal::SIGKILL)?;
    assert_eq!(run.finish()?.code, None);
    // Nobody is asked: the guest outlives the command.
    assert!(qemu.is_alive());
    let listed = node.call(&["ps"])?.expect_code(0)?;
    assert!(listed.stdout.contains("lost"), "{}", listed.stdout);

    node.call(&["clean"])?.expect_code(0)?;
    assert!(!qemu.is_alive());
    node.expect_clean()
}

#[test]
fn what_commands_that_were_killed_early_left_is_removed_by_the_next_run() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("power-button")?;
    let manifest = vm("lost").boots_from("root");
    let command = || node.run(&manifest, &[("root", disk.path())], &[]);
    for stage in [
        "admission",
        "pod",
        "containerd",
        "image",
        "sandbox",
        "container",
    ] {
        let run = Run::start(&mut command()?)?;
        run.wait_stderr(&format!("{stage:<11} "))?;
        run.signal(Signal::SIGKILL)?;
        run.finish()?;
    }
    let run = Run::start(&mut command()?)?;
    run.wait_stdout("guest ready")?;
    run.signal(Signal::SIGINT)?;
    let finished = run.finish()?.expect_code(0)?;
    finished.expect_said(&["removed what a killed command left of default/lost"])?;
    node.expect_clean()
}

#[test]
fn a_command_that_is_killed_while_it_imports_an_image_leaves_no_helper() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("power-button")?;
    let manifest = vm("lost").boots_from("root");
    let run = Run::start(&mut node.run(&manifest, &[("root", disk.path())], &[])?)?;
    until("the import of an image", || {
        let processes = node.processes();
        processes
            .iter()
            .any(|process| process.program() == "ctr")
            .then_some(())
    })?;
    run.signal(Signal::SIGKILL)?;
    run.finish()?;
    node.call(&["clean"])?.expect_code(0)?;
    node.expect_clean()
}
