//! One disk, two VMs: only where both say so.

use coracle_tests::{Logbook, LogbookError, Node, Run, disk, vm};
use nix::sys::signal::Signal;
use serde_json::json;

#[test]
fn a_second_vm_on_the_same_claim_or_device_is_refused_by_name() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let root = node.guest_disk("power-button")?;
    let volumes = [("root", root.path())];
    let first = Run::start(&mut node.run(&vm("first").boots_from("root"), &volumes, &[])?)?;
    first.wait_stdout("guest ready")?;

    let same_claim = node.run(&vm("second").boots_from("root"), &volumes, &[]);
    let refused = Run::start(&mut same_claim?)?.finish()?.expect_code(2)?;
    refused.expect_said(&[
        "claim \"root\"",
        "in use by",
        "default/first",
        "stop that one first",
    ])?;

    let other = [("other", root.path())];
    let same_device = node.run(&vm("third").boots_from("other"), &other, &[]);
    let refused = Run::start(&mut same_device?)?.finish()?.expect_code(2)?;
    refused.expect_said(&["claim \"other\"", "in use by", "default/first"])?;

    let same_name = node.run(&vm("first").boots_from("root"), &volumes, &[]);
    let refused = Run::start(&mut same_name?)?.finish()?.expect_code(2)?;
    refused.expect_said(&["default/first runs already", "coracle stop"])?;

    first.signal(Signal::SIGINT)?;
    first.finish()?.expect_code(0)?;
    node.expect_clean()
}

#[test]
fn a_second_vm_of_another_state_directory_cannot_open_the_device() -> anyhow::Result<()> {
    let (Some(node), Some(other)) = (Node::new()?, Node::new()?) else {
        return Ok(());
    };
    let root = node.guest_disk("power-button")?;
    let volumes = [("root", root.path())];
    let first = Run::start(&mut node.run(&vm("first").boots_from("root"), &volumes, &[])?)?;
    first.wait_stdout("guest ready")?;
    let second = other.run(&vm("second").boots_from("root"), &volumes, &[]);
    let refused = Run::start(&mut second?)?.finish()?.expect_code(3)?;
    let device = root.path().display().to_string();
    refused.expect_said(&["volume \"root\"", &device, "is in use", "stop that first"])?;
    other.expect_clean()?;
    first.signal(Signal::SIGINT)?;
    first.finish()?.expect_code(0)?;
    node.expect_clean()
}

#[test]
fn two_vms_share_a_disk_that_both_call_shareable() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let boot = [
        node.guest_disk("power-button")?,
        node.guest_disk("power-button")?,
    ];
    let shared = node.disk("shared", b"shared", 1 << 20)?;
    let manifest = |name: &str, root: &str| {
        let fields = json!({"claim": {"name": "shared"}, "shareable": true});
        vm(name)
            .boots_from(root)
            .with_disk(disk("shared", fields))
            .with_claim("shared", "Block", "1Mi")
    };
    let mut runs = Vec::new();
    for (name, boot) in ["one", "two"].into_iter().zip(&boot) {
        let volumes = [(name, boot.path()), ("shared", shared.path())];
        let run = Run::start(&mut node.run(&manifest(name, name), &volumes, &[])?)?;
        run.wait_stdout("guest ready")?;
        runs.push(run);
    }
    for run in runs {
        run.signal(Signal::SIGINT)?;
        run.finish()?.expect_code(0)?;
    }
    node.expect_clean()
}

/// What tests of the cluster rely on: two writers of one disk do not go
/// unnoticed.
#[test]
fn a_guest_with_a_logbook_notices_another_that_boots_from_its_disk() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let root = node.guest_disk("logbook")?;
    let volumes = [("root", root.path())];
    let fields = json!({"bootOrder": 1, "claim": {"name": "root"}, "shareable": true});
    let manifest = |name: &str| {
        // One that has noticed does nothing any more.
        vm(name)
            .with("terminationGracePeriodSeconds", 5)
            .with_disk(disk("root", fields.clone()))
            .with_claim("root", "Block", "1Mi")
    };
    let first = Run::start(&mut node.run(&manifest("first"), &volumes, &[])?)?;
    first.wait_stdout("guest ready")?;
    let second = Run::start(&mut node.run(&manifest("second"), &volumes, &[])?)?;
    first.wait_stdout("guest is not alone")?;
    for run in [first, second] {
        run.signal(Signal::SIGINT)?;
        run.finish()?;
    }
    let logbook = Logbook::read(&root.read()?);
    assert_eq!(logbook, Err(LogbookError::NotAlone));
    node.expect_clean()
}
