//! A VM from its start to an end of its own.

use coracle_tests::{Node, Run, guest, until, vm};
use serde_json::{Value, json};

/// Every stage of a run, in its order.
const STAGES: [&str; 8] = [
    "manifest",
    "admission",
    "volumes",
    "pod",
    "containerd",
    "image",
    "sandbox",
    "container",
];

#[test]
fn a_guest_that_powers_off_ends_the_run_with_success_twice_in_a_row() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("hello-poweroff")?;
    let manifest = vm("hello").boots_from("root");
    for _ in 0..2 {
        let run = Run::start(&mut node.run(&manifest, &[("root", disk.path())], &[])?)?;
        let finished = run.finish()?.expect_code(0)?;
        assert!(
            finished.stdout.contains("hello from the guest"),
            "{}",
            finished.stdout
        );
        finished.expect_said(&["default/hello", "pod sandbox", "GuestShutdown"])?;
        check_report(&node.report()?, disk.path());
        node.expect_clean()?;
    }
    Ok(())
}

fn check_report(report: &Value, device: &std::path::Path) {
    let stages: Vec<&str> = report["stages"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|stage| stage["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(stages[..STAGES.len()], STAGES);
    assert_eq!(report["vm"]["name"], "hello");
    assert_eq!(report["end"]["exitCode"], 0);
    assert_eq!(report["end"]["termination"]["reason"], "GuestShutdown");
    let disk = &report["disks"][0];
    assert_eq!(disk["claim"], "root");
    assert_eq!(disk["path"], device.display().to_string());
    assert_eq!(disk["containerPath"], "/dev/coracle/root");
    assert_eq!(disk["bytes"], 1 << 20);
    for key in ["sandboxId", "podIp", "containerId", "runtime"] {
        assert!(
            report[key].as_str().is_some_and(|text| !text.is_empty()),
            "{key}: {report:#}"
        );
    }
}

#[test]
fn an_image_file_plays_a_block_claim_through_a_loop_device() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let image = node.file("root.img", std::fs::read(guest("hello-poweroff")?)?)?;
    let manifest = vm("hello").boots_from("root");
    let run = Run::start(&mut node.run(&manifest, &[("root", image.as_ref())], &[])?)?;
    let finished = run.finish()?.expect_code(0)?;
    assert!(
        finished.stdout.contains("hello from the guest"),
        "{}",
        finished.stdout
    );
    let report = node.report()?;
    assert!(
        report["disks"][0]["loopDevice"].as_str().is_some(),
        "{report:#}"
    );
    node.expect_clean()
}

#[test]
fn the_guest_has_neither_privilege_nor_more_than_its_own_devices() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("power-button")?;
    let manifest = vm("modest").boots_from("root");
    let run = Run::start(&mut node.run(&manifest, &[("root", disk.path())], &[])?)?;
    run.wait_stdout("guest ready")?;
    let shim = node.shim()?;
    for process in [&shim, &node.qemu()?] {
        let program = process.program();
        assert_eq!(
            process.status("Uid").as_deref(),
            Some("107\t107\t107\t107"),
            "{program}"
        );
        assert_eq!(
            process.status("CapEff").as_deref(),
            Some("0000000000000000"),
            "{program}"
        );
        assert_eq!(
            process.status("CapBnd").as_deref(),
            Some("0000000000000000"),
            "{program}"
        );
        assert_eq!(
            process.status("NoNewPrivs").as_deref(),
            Some("1"),
            "{program}"
        );
        assert_eq!(process.status("Seccomp").as_deref(), Some("2"), "{program}");
        assert_eq!(
            process.status("Groups").as_deref(),
            Some("6 107"),
            "{program}"
        );
    }
    // Its disk is a node of its own, with the owner that a stock node has.
    let root = shim.file("root/dev/coracle/root");
    let metadata = std::fs::metadata(&root)?;
    assert_eq!(owner_and_mode(&metadata), (0, 6, 0o660));
    assert!(
        !shim.file("root/dev/kvm").exists(),
        "an emulated guest was given /dev/kvm"
    );
    run.signal(nix::sys::signal::Signal::SIGINT)?;
    run.finish()?.expect_code(0)?;
    node.expect_clean()
}

fn owner_and_mode(metadata: &std::fs::Metadata) -> (u32, u32, u32) {
    use std::os::unix::fs::MetadataExt;
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

#[test]
fn the_run_can_be_told_to_stop_at_a_text_on_the_console() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("power-button")?;
    let manifest = vm("told").boots_from("root");
    let volumes = [("root", disk.path())];
    let run = Run::start(&mut node.run(&manifest, &volumes, &["--stop-after", "guest ready"])?)?;
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
fn the_memory_limit_of_the_pod_holds_qemu() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let disk = node.guest_disk("power-button")?;
    let manifest = vm("small").boots_from("root");
    let run = Run::start(&mut node.run(&manifest, &[("root", disk.path())], &[])?)?;
    run.wait_stdout("guest ready")?;
    let qemu = node.qemu()?;
    let uid = node.record("small")?["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    // Below the pod's own cgroup, in every hierarchy that there is.
    let cgroups = std::fs::read_to_string(qemu.file("cgroup"))?;
    let memory = cgroups
        .lines()
        .find(|line| line.contains("memory") || line.starts_with("0::"));
    assert!(
        memory.is_some_and(|line| line.contains(&format!("/coracle/pod{uid}/"))),
        "{cgroups}"
    );
    run.signal(nix::sys::signal::Signal::SIGINT)?;
    run.finish()?.expect_code(0)?;
    until("an empty machine", || node.expect_clean().ok())
}

#[test]
fn a_kernel_in_a_filesystem_claim_is_booted_directly() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let kernel = node.dir().join("kernel");
    std::fs::create_dir_all(kernel.join("boot"))?;
    std::fs::copy(guest("kernel")?, kernel.join("boot/vmlinuz"))?;
    std::fs::write(kernel.join("initrd"), "a ram disk")?;
    let firmware = json!({"kernel": {
        "claim": {"name": "kernel"},
        "path": "boot/vmlinuz",
        "initrd": "initrd",
        "cmdline": "console=ttyS0 a,b=\"c d\"",
    }});
    let manifest =
        vm("direct")
            .with("firmware", firmware)
            .with_claim("kernel", "Filesystem", "64Mi");
    let run = Run::start(&mut node.run(&manifest, &[("kernel", &kernel)], &[])?)?;
    let finished = run.finish()?.expect_code(0)?;
    let words = "kernel with command line: console=ttyS0 a,b=\"c d\", with a ram disk";
    assert!(finished.stdout.contains(words), "{}", finished.stdout);
    node.expect_clean()
}
