//! A VM's life from `run` to its end, with the real qemu.

use std::process::{Command, Stdio};

use coracle_api::report::{Status, TerminationReason as Reason};
use nix::{sys::signal::Signal, unistd::Uid};

use crate::bench::{Bench, Running, SHIM, has_qemu, is_alive};

#[test]
fn a_guest_that_powers_off_ends_the_shim_well() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("hello-poweroff");
    let ended = bench.run().end();
    ended.assert_code(0);
    assert_eq!(ended.stdout, "hello from the guest\r\n");
    assert_eq!(bench.termination().reason, Reason::GuestShutdown);
    assert!(!bench.path("run/shim.sock").exists());
}

#[test]
fn term_presses_the_power_button() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("power-button");
    let shim = bench.run();
    shim.wait_for("guest ready");
    shim.signal(Signal::SIGTERM);
    let ended = shim.end();
    ended.assert_code(0);
    assert!(
        ended.stdout.ends_with("guest powers off\r\n"),
        "{}",
        ended.stdout
    );
    assert_eq!(bench.termination().reason, Reason::Stopped);
}

#[test]
fn a_guest_that_ignores_the_button_is_ended_at_the_deadline() {
    if !has_qemu() {
        return;
    }
    let mut bench = Bench::new("ignore-button");
    bench.machine.shutdown_seconds = 1;
    bench.write_machine();
    let shim = bench.run();
    shim.wait_for("guest ready");
    shim.signal(Signal::SIGTERM);
    // A second one neither hastens nor delays anything.
    shim.signal(Signal::SIGTERM);
    shim.end().assert_code(0);
    assert_eq!(bench.termination().reason, Reason::Killed);
}

#[test]
fn a_second_interrupt_ends_the_vm_at_once() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("ignore-button");
    let shim = bench.run();
    shim.wait_for("guest ready");
    shim.signal(Signal::SIGINT);
    shim.wait_for_log("to=\"stopping\"");
    shim.signal(Signal::SIGINT);
    shim.end().assert_code(0);
    assert_eq!(bench.termination().reason, Reason::Killed);
}

#[test]
fn a_panic_of_the_guest_is_a_failure() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("panic");
    let ended = bench.run().end();
    ended.assert_code(1);
    assert!(ended.stdout.contains("guest panics"));
    assert_eq!(bench.termination().reason, Reason::GuestPanicked);
}

#[test]
fn qemu_dies_with_a_shim_that_is_killed_and_the_next_run_works() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("power-button");
    let shim = bench.run();
    shim.wait_for("guest ready");
    let qemu = bench.state().pid.expect("qemu runs");
    shim.signal(Signal::SIGKILL);
    assert!(!shim.end().status.success());
    while is_alive(qemu) {}
    assert!(
        bench.path("run/shim.sock").exists(),
        "nobody was left to remove it"
    );
    assert!(bench.refused(&["state"]).contains("no VM runs"));

    let shim = bench.run();
    shim.wait_for("guest ready");
    shim.signal(Signal::SIGTERM);
    shim.end().assert_code(0);
    assert_eq!(bench.termination().reason, Reason::Stopped);
}

#[test]
fn the_wanted_state_is_followed() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("power-button");
    bench.desire("Paused\n");
    let shim = bench.run();
    shim.wait_for_log("to=\"paused\"");
    assert_eq!(bench.state().status, Status::Paused);
    bench.desire("Running\n");
    shim.wait_for("guest ready");
    bench.wait_for_status(Status::Running);
    bench.desire("Paused");
    bench.wait_for_status(Status::Paused);
    // A guest that is paused still can be stopped.
    shim.signal(Signal::SIGTERM);
    shim.end().assert_code(0);
    assert_eq!(bench.termination().reason, Reason::Stopped);
}

#[test]
fn as_pid_1_it_reaps_orphans() {
    if !has_qemu() {
        return;
    }
    if !Uid::effective().is_root() {
        eprintln!("skipped: a process namespace needs root");
        return;
    }
    let bench = Bench::new("power-button");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", SHIM]);
    command
        .args(bench.options())
        .args(["--log-level=debug", "run"])
        .stdin(Stdio::null());
    let shim = Running::start(command);
    shim.wait_for("guest ready");
    let children = format!("/proc/{0}/task/{0}/children", shim.pid());
    let pid_1 = std::fs::read_to_string(children)
        .expect("children")
        .trim()
        .to_owned();
    // The inner shell's child outlives it, so that pid 1 inherits it.
    let orphan = Command::new("nsenter")
        .args([
            "--target",
            &pid_1,
            "--pid",
            "--mount",
            "sh",
            "-c",
            "(exec sh -c 'exit 7' &)",
        ])
        .status()
        .expect("nsenter runs");
    assert!(orphan.success());
    shim.wait_for_log("reaped an orphan");
    bench.ok(&["kill"]);
    shim.end().assert_code(0);
    assert_eq!(bench.termination().reason, Reason::Stopped);
}

#[test]
fn the_pause_process_ends_on_term() {
    let mut command = Command::new(SHIM);
    command.args(["pause", "--sandbox"]).stdin(Stdio::null());
    let pause = Running::start(command);
    // Waiting is the system call `rt_sigtimedwait`.
    let call = format!("/proc/{}/syscall", pause.pid());
    let waits = || {
        std::fs::read_to_string(&call)
            .expect("call")
            .starts_with("128 ")
    };
    while !waits() {}
    pause.signal(Signal::SIGTERM);
    let ended = pause.end();
    ended.assert_code(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
}
