//! A qemu that misbehaves.

use coracle_api::report::{TerminationMessage, TerminationReason as Reason};
use nix::sys::signal::Signal;

use crate::bench::Bench;

/// Runs against a fault to the end, which must be a failure of qemu's.
#[track_caller]
fn fails(fault: &str) -> TerminationMessage {
    let bench = Bench::with_fault(fault);
    let ended = bench.run_with(&["--qmp-timeout=1"]).end();
    ended.assert_code(1);
    let termination = bench.termination();
    assert_eq!(termination.reason, Reason::QemuFailed);
    assert!(
        ended.stderr.contains(&termination.message),
        "{}",
        ended.stderr
    );
    termination
}

#[test]
fn qemu_that_exits_at_once_is_quoted() {
    let message = fails("exits-at-once").message;
    let wanted =
        "qemu ended with exit code 1: fake-qemu: -device nonsense: there is no such device";
    assert_eq!(message, wanted);
}

#[test]
fn qemu_that_never_greets_is_killed() {
    assert!(
        fails("never-greets")
            .message
            .contains("did not answer on QMP in time")
    );
}

#[test]
fn qemu_that_greets_with_garbage_is_killed() {
    let message = fails("greets-with-garbage").message;
    assert!(message.contains("SSH-2.0-OpenSSH"), "{message}");
}

#[test]
fn qemu_that_dies_in_the_middle_is_told_by_its_signal() {
    let message = fails("dies-in-the-middle").message;
    assert_eq!(
        message,
        "qemu ended with signal 6: fake-qemu: an assertion failed"
    );
}

#[test]
fn qemu_that_refuses_to_run_the_guest_is_quoted() {
    let message = fails("refuses-to-run").message;
    assert_eq!(
        message,
        "qemu refused to run the guest: the image is locked"
    );
}

#[test]
fn what_is_unknown_on_qmp_does_no_harm() {
    let bench = Bench::with_fault("sends-the-unknown");
    let ended = bench.run_with(&["--log-level=debug"]).end();
    ended.assert_code(0);
    assert!(ended.stderr.contains("MOON_RISES"), "{}", ended.stderr);
    assert_eq!(bench.termination().reason, Reason::GuestShutdown);
}

#[test]
fn qemu_that_ignores_the_button_and_quit_is_killed() {
    let mut bench = Bench::with_fault("ignores-everything");
    bench.machine.shutdown_seconds = 0;
    bench.write_machine();
    let shim = bench.run();
    shim.wait_for_log("to=\"running\"");
    shim.signal(Signal::SIGTERM);
    let ended = shim.end();
    ended.assert_code(0);
    assert!(ended.stderr.contains("killing qemu"), "{}", ended.stderr);
    assert_eq!(bench.termination().reason, Reason::Killed);
}

#[test]
fn a_stop_before_qemu_has_greeted_ends_it() {
    let bench = Bench::with_fault("never-greets");
    let shim = bench.run();
    shim.wait_for_log("started qemu");
    shim.signal(Signal::SIGTERM);
    shim.end().assert_code(0);
    assert_eq!(bench.termination().reason, Reason::Stopped);
}

#[test]
fn a_failed_create_says_why_and_leaves_nothing() {
    let bench = Bench::with_fault("exits-at-once");
    let output = bench.call(&["create"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("there is no such device"), "{stderr}");
    assert_eq!(bench.termination().reason, Reason::QemuFailed);
    assert!(!bench.path("run/shim.sock").exists());
}

#[test]
fn qemu_that_has_something_else_open_never_runs_the_guest() {
    let bench = Bench::with_fault("opens-another-disk");
    let ended = bench.run().end();
    ended.assert_code(3);
    let termination = bench.termination();
    assert_eq!(termination.reason, Reason::DiskInvalid);
    assert_eq!(termination.disk.as_deref(), Some("root"));
    assert!(
        !ended.stderr.contains("to=\"starting\""),
        "{}",
        ended.stderr
    );
}
