//! `accelerator: Kvm`: the device plugin's /dev/kvm in the pod, or a clear
//! refusal.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use coracle_tests::{Manifest, Node, Run, program, skip, vm};
use nix::sys::signal::Signal;

const HOST: &str = "/dev/kvm";

fn kvm(name: &str) -> Manifest {
    vm(name).boots_from("root").with("accelerator", "Kvm")
}

/// Whether KVM here gets as far as this; says that the test is skipped where
/// it does not.
fn kvm_reaches(level: &str) -> anyhow::Result<bool> {
    let probe = program("coracle-device-plugin")?;
    let probed = Command::new(probe)
        .args(["probe", "--kvm-probe", level])
        .output()?;
    Ok(probed.status.success())
}

fn owner_and_mode(path: &Path) -> anyhow::Result<(u32, u32, u32, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((
        metadata.uid(),
        metadata.gid(),
        metadata.mode() & 0o7777,
        metadata.rdev(),
    ))
}

#[test]
fn a_guest_runs_under_kvm_on_the_plugins_node_as_an_ordinary_user() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    if !kvm_reaches("run")? {
        skip("KVM does not run a guest here");
        return Ok(());
    }
    let before = owner_and_mode(Path::new(HOST))?;
    let root = node.guest_disk("power-button")?;
    let volumes = [("root", root.path())];
    let run = Run::start(&mut node.run(&kvm("fast"), &volumes, &["--kvm-probe", "run"])?)?;
    run.wait_stdout("guest ready")?;

    let record = node.record("fast")?;
    let grant = &record["report"]["devices"][0];
    assert_eq!(grant["resource"], "coracle.dev/kvm");
    assert_eq!(grant["ids"].as_array().map(Vec::len), Some(1), "{grant:#}");
    let device = &grant["answer"]["devices"][0];
    let plugins = node.state().join("dev/kvm");
    assert_eq!(device["hostPath"], plugins.display().to_string());
    assert_eq!(device["containerPath"], HOST);
    let (uid, gid, mode, rdev) = owner_and_mode(&plugins)?;
    assert_eq!(
        (mode, rdev),
        (0o666, before.3),
        "the plugin's node, owned by {uid}:{gid}"
    );

    let qemu = node.qemu()?;
    assert_eq!(qemu.status("Uid").as_deref(), Some("107\t107\t107\t107"));
    assert_eq!(qemu.status("CapEff").as_deref(), Some("0000000000000000"));
    let opened = std::fs::read_dir(qemu.file("fd"))?.flatten();
    let opened: Vec<_> = opened
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .collect();
    assert!(
        opened
            .iter()
            .any(|path| path.as_os_str() == "anon_inode:kvm-vm"),
        "{opened:?}"
    );
    // The plugin is not needed any more: the guest goes on without it.
    let plugin = node.processes();
    let plugin = plugin
        .iter()
        .find(|process| process.program() == "coracle-device-plugin");
    assert_eq!(plugin, None);

    run.signal(Signal::SIGINT)?;
    let finished = run.finish()?.expect_code(0)?;
    assert!(
        finished.stdout.contains("guest powers off"),
        "{}",
        finished.stdout
    );
    assert_eq!(
        owner_and_mode(Path::new(HOST))?,
        before,
        "the host's node was changed"
    );
    node.expect_clean()
}

#[test]
fn a_second_vm_under_kvm_gets_another_slot_and_leaves_the_first_alone() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    if !kvm_reaches("run")? {
        skip("KVM does not run a guest here");
        return Ok(());
    }
    let disks = [
        node.guest_disk("power-button")?,
        node.guest_disk("power-button")?,
    ];
    let mut runs = Vec::new();
    for (name, disk) in ["one", "two"].into_iter().zip(&disks) {
        let manifest = vm(name).boots_from(name).with("accelerator", "Kvm");
        // A plugin of its own is started for each, and ends.
        let command = node.run(&manifest, &[(name, disk.path())], &["--kvm-probe", "run"]);
        let run = Run::start(&mut command?)?;
        run.wait_stdout("guest ready")?;
        runs.push(run);
    }
    let [one, two] = ["one", "two"].map(|name| node.record(name));
    assert_ne!(one?["devices"][0]["ids"], two?["devices"][0]["ids"]);
    for run in runs {
        run.signal(Signal::SIGINT)?;
        run.finish()?.expect_code(0)?;
    }
    node.expect_clean()
}

#[test]
fn a_kvm_that_runs_no_kernel_is_refused_and_never_becomes_emulation() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    if kvm_reaches("kernel")? {
        skip("KVM runs kernels here");
        return Ok(());
    }
    let root = node.guest_disk("power-button")?;
    let command = node.run(&kvm("slow"), &[("root", root.path())], &[]);
    let refused = Run::start(&mut command?)?.finish()?.expect_code(3)?;
    refused.expect_said(&["no usable KVM", "accelerator: Emulation"])?;
    assert_eq!(refused.stdout, "");
    node.expect_clean()
}

#[test]
fn an_end_while_the_device_plugin_works_leaves_nothing() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    if !kvm_reaches("run")? {
        skip("KVM does not run a guest here");
        return Ok(());
    }
    let root = node.guest_disk("power-button")?;
    let command = || {
        node.run(
            &kvm("cut"),
            &[("root", root.path())],
            &["--kvm-probe", "run"],
        )
    };
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        // The plugin is started after the one, and ends after the container.
        for stage in ["pod", "devices", "sandbox"] {
            let run = Run::start(&mut command()?)?;
            run.wait_stderr(&format!("{stage:<11} "))?;
            run.signal(signal)?;
            run.finish()?;
            if signal == Signal::SIGKILL {
                node.call(&["clean"])?.expect_code(0)?;
            }
            node.expect_clean()
                .map_err(|left| left.context(format!("{signal} after {stage}")))?;
        }
    }
    Ok(())
}
