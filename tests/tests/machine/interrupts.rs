//! Ctrl-C: at every stage, and while the guest runs.

use coracle_tests::{Node, Run, vm};
use nix::sys::signal::Signal;

#[test]
fn an_interrupt_presses_the_power_button() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("power-button")?;
    let manifest = vm("polite").boots_from("root");
    let run = Run::start(&mut node.run(&manifest, &[("root", disk.path())], &[])?)?;
    run.wait_stdout("guest ready")?;
    run.signal(Signal::SIGINT)?;
    let finished = run.finish()?.expect_code(0)?;
    assert!(
        finished.stdout.contains("guest powers off"),
        "{}",
        finished.stdout
    );
    assert_eq!(node.report()?["end"]["termination"]["reason"], "Stopped");
    node.expect_clean()
}

#[test]
fn a_guest_that_ignores_the_button_is_ended_at_the_deadline() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("ignore-button")?;
    let manifest = vm("stubborn")
        .boots_from("root")
        .with("terminationGracePeriodSeconds", 6);
    let run = Run::start(&mut node.run(&manifest, &[("root", disk.path())], &[])?)?;
    run.wait_stdout("guest ready")?;
    run.signal(Signal::SIGINT)?;
    run.finish()?.expect_code(0)?;
    assert_eq!(node.report()?["end"]["termination"]["reason"], "Killed");
    node.expect_clean()
}

#[test]
fn a_second_interrupt_ends_the_guest_at_once() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("ignore-button")?;
    // Longer than the test's patience: only the second interrupt ends it.
    let manifest = vm("hasty")
        .boots_from("root")
        .with("terminationGracePeriodSeconds", 3600);
    let run = Run::start(&mut node.run(&manifest, &[("root", disk.path())], &[])?)?;
    run.wait_stdout("guest ready")?;
    run.signal(Signal::SIGINT)?;
    run.wait_stderr("asking default/hasty to power off")?;
    run.signal(Signal::SIGINT)?;
    run.finish()?.expect_code(0)?;
    assert_eq!(node.report()?["end"]["termination"]["reason"], "Killed");
    node.expect_clean()
}

#[test]
fn an_interrupt_at_any_stage_leaves_nothing() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("power-button")?;
    let manifest = vm("early").boots_from("root");
    let command = || node.run(&manifest, &[("root", disk.path())], &[]);
    // The store is empty at first: the one after "containerd" hits the import
    // of the images, and those before it an image store that is not there.
    for stage in [
        "manifest",
        "admission",
        "volumes",
        "pod",
        "containerd",
        "image",
        "sandbox",
        "container",
    ] {
        let run = Run::start(&mut command()?)?;
        run.wait_stderr(&format!("{stage:<11} "))?;
        run.signal(Signal::SIGINT)?;
        let finished = run.finish()?;
        // 130 when the guest never ran, 0 when it was asked to power off.
        assert!(
            matches!(finished.code, Some(130 | 0)),
            "after {stage}: {finished:?}"
        );
        node.expect_clean()
            .map_err(|left| left.context(format!("interrupted after {stage}")))?;
    }
    let run = Run::start(&mut command()?)?;
    run.wait_stdout("guest ready")?;
    run.signal(Signal::SIGTERM)?;
    run.finish()?.expect_code(0)?;
    node.expect_clean()
}
