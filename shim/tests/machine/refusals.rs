//! VMs that are not started, and why.

use std::{
    fs,
    process::{Command, Stdio},
};

use coracle_api::{
    machine::{Device, DiskSource},
    report::{TerminationMessage, TerminationReason as Reason},
};
use nix::{
    sys::{
        resource::{Resource, getrlimit},
        signal::Signal,
    },
    unistd::Uid,
};

use crate::{
    bench::{Bench, Ended, Running, SHIM, has_qemu},
    devices::Loop,
};

/// Runs a VM that must be refused with this exit code.
#[track_caller]
fn refused(bench: &Bench, code: u8) -> TerminationMessage {
    let ended = bench.run().end();
    ended.assert_code(code);
    assert_eq!(ended.stdout, "");
    let termination = bench.termination();
    assert_eq!(termination.reason.exit_code(), code);
    let said = ended
        .stderr
        .lines()
        .filter(|line| line.contains("ERROR"))
        .count();
    assert_eq!(said, 1, "one clear line: {}", ended.stderr);
    assert!(!bench.path("run/shim.sock").exists());
    termination
}

#[test]
fn a_qemu_that_is_not_there_is_named() {
    let mut bench = Bench::new("hello-poweroff");
    bench.set_qemu("/nonexistent/qemu");
    let termination = refused(&bench, 3);
    assert_eq!(termination.reason, Reason::HostFailed);
    assert!(
        termination.message.contains("/nonexistent/qemu"),
        "{}",
        termination.message
    );
}

#[test]
fn a_description_of_a_newer_version_is_called_newer() {
    let bench = Bench::new("hello-poweroff");
    bench.write_description(
        &bench
            .machine
            .to_json()
            .replace("\"version\":1", "\"version\":2"),
    );
    assert_eq!(refused(&bench, 2).reason, Reason::UnsupportedVersion);
}

#[test]
fn a_description_that_is_not_json_or_not_there_is_refused() {
    let bench = Bench::new("hello-poweroff");
    bench.write_description("{");
    assert_eq!(refused(&bench, 2).reason, Reason::InvalidMachine);
    fs::remove_file(bench.path("config/machine.json")).expect("remove");
    assert_eq!(refused(&bench, 2).reason, Reason::InvalidMachine);
}

#[test]
fn a_disk_that_is_not_there_is_named() {
    let bench = Bench::new("hello-poweroff");
    fs::remove_file(bench.path("disk.img")).expect("remove");
    let termination = refused(&bench, 3);
    assert_eq!(termination.reason, Reason::DiskNotFound);
    assert_eq!(termination.disk.as_deref(), Some("root"));
}

fn gpu(bench: &mut Bench) {
    bench.machine.devices = vec![Device {
        name: "gpu".into(),
        resource: "example.com/a10".into(),
    }];
    bench.write_machine();
}

#[test]
fn a_device_that_was_not_given_is_named() {
    let mut bench = Bench::new("hello-poweroff");
    gpu(&mut bench);
    let termination = refused(&bench, 3);
    assert_eq!(termination.reason, Reason::DeviceUnavailable);
    for part in [
        "device \"gpu\" (example.com/a10)",
        "CORACLE_DEVICE_EXAMPLE_COM_A10",
    ] {
        let said = &termination.message;
        assert!(said.contains(part), "{said}");
    }
}

/// Runs the shim with a variable that names a PCI function and this limit, in
/// KiB, on locked memory, and without the capability that no limit holds.
fn run_with_memlock(bench: &Bench, soft: u64, hard: u64) -> Option<Ended> {
    let tool = |name: &str| Command::new(name).arg("--version").output().is_ok();
    if !tool("setpriv") || !tool("prlimit") {
        eprintln!("skipped: there is no setpriv or prlimit");
        return None;
    }
    let mut command = Command::new("prlimit");
    command.arg(format!("--memlock={}:{}", soft << 10, hard << 10));
    if Uid::effective().is_root() {
        command.args([
            "setpriv",
            "--bounding-set=-ipc_lock",
            "--inh-caps=-ipc_lock",
        ]);
    }
    command
        .arg(SHIM)
        .args(bench.options())
        .arg("run")
        .env("CORACLE_DEVICE_EXAMPLE_COM_A10", "ffff:ff:1f.7")
        .stdin(Stdio::null());
    Some(Running::start(command).end())
}

#[test]
fn a_limit_on_locked_memory_is_told_before_qemu_starts() {
    let mut bench = Bench::new("hello-poweroff");
    gpu(&mut bench);
    let Some(ended) = run_with_memlock(&bench, 64, 8 << 10) else {
        return;
    };
    ended.assert_code(3);
    let termination = bench.termination();
    assert_eq!(termination.reason, Reason::MemoryLockTooLow);
    for part in ["locks 96 MiB", "may lock 8 MiB", "LimitMEMLOCK"] {
        let said = &termination.message;
        assert!(said.contains(part), "{said}");
    }
    // What can be raised is raised: now it is the device that is missing.
    let (_, ours) = getrlimit(Resource::RLIMIT_MEMLOCK).expect("a limit");
    if ours < 128 << 20 {
        eprintln!("skipped in part: these tests may lock {ours} bytes themselves");
        return;
    }
    let ended = run_with_memlock(&bench, 64, 128 << 10).expect("as before");
    ended.assert_code(3);
    let termination = bench.termination();
    assert_eq!(termination.reason, Reason::DeviceUnavailable);
    let said = &termination.message;
    assert!(said.contains("ffff:ff:1f.7 is not there"), "{said}");
}

#[test]
fn create_comes_back_with_the_refusals_code_and_message() {
    let bench = Bench::new("hello-poweroff");
    fs::remove_file(bench.path("disk.img")).expect("remove");
    let output = bench.call(&["create"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("disk \"root\""));
}

#[test]
fn one_shim_per_runtime_directory() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("power-button");
    let shim = bench.run();
    shim.wait_for("guest ready");
    let second = bench.run().end();
    second.assert_code(3);
    assert!(
        second.stderr.contains("another coracle-shim"),
        "{}",
        second.stderr
    );
    bench.ok(&["probe"]);
    shim.signal(Signal::SIGTERM);
    shim.end().assert_code(0);
}

#[test]
fn a_block_device_that_another_vm_has_is_busy() {
    if !has_qemu() {
        return;
    }
    let mut first = Bench::new("power-button");
    let Some(device) = Loop::new(&first.path("disk.img")) else {
        return;
    };
    let mut second = Bench::new("power-button");
    for bench in [&mut first, &mut second] {
        bench.machine.disks[0].source = DiskSource::Block {
            path: device.path().to_owned(),
        };
        bench.write_machine();
    }
    let shim = first.run();
    shim.wait_for("guest ready");
    let termination = refused(&second, 3);
    assert_eq!(
        termination.reason,
        Reason::DiskBusy,
        "{}",
        termination.message
    );
    shim.signal(Signal::SIGTERM);
    shim.end().assert_code(0);

    // It is free again as soon as the first shim has ended.
    let shim = second.run();
    shim.wait_for("guest ready");
    shim.signal(Signal::SIGTERM);
    shim.end().assert_code(0);
}
