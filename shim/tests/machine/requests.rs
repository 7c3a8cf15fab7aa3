//! What others ask of a running shim over its control socket.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::Stdio,
};

use coracle_api::report::{Status, TerminationReason as Reason};

use crate::bench::{Bench, Running, has_qemu};

#[test]
fn pause_resume_state_and_probe() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("power-button");
    let shim = bench.run();
    shim.wait_for("guest ready");
    let state = bench.state();
    assert_eq!(
        (state.id.as_str(), state.status),
        ("shop/web", Status::Running)
    );
    assert_eq!(bench.ok(&["probe"]), "the VM runs\n");

    bench.ok(&["pause"]);
    bench.ok(&["pause"]);
    assert_eq!(bench.state().status, Status::Paused);
    assert!(bench.refused(&["probe"]).contains("is paused"));
    bench.ok(&["probe", "--created"]);
    bench.ok(&["resume"]);
    assert_eq!(bench.state().status, Status::Running);

    assert!(bench.refused(&["delete"]).contains("has not ended"));
    bench.ok(&["kill", "TERM"]);
    shim.end().assert_code(0);
    assert_eq!(bench.termination().reason, Reason::Stopped);
    assert!(bench.refused(&["state"]).contains("no VM runs"));
}

#[test]
fn kill_ends_a_guest_that_ignores_the_button() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("ignore-button");
    let shim = bench.run();
    shim.wait_for("guest ready");
    bench.ok(&["kill"]);
    bench.ok(&["kill", "kill"]);
    shim.end().assert_code(0);
    assert_eq!(bench.termination().reason, Reason::Killed);
}

#[test]
fn create_start_kill_delete() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("power-button");
    // The guest's console is the background shim's standard output; a pipe
    // would be held open by it.
    let console = File::create(bench.path("console")).expect("create");
    let created = bench
        .command(&["create"])
        .stdout(console)
        .stderr(Stdio::null())
        .status();
    assert!(created.expect("it runs").success());
    assert_eq!(bench.state().status, Status::Created);
    bench.ok(&["probe", "--created"]);
    assert!(bench.refused(&["probe"]).contains("is created"));
    assert!(bench.refused(&["pause"]).contains("start"));

    bench.ok(&["start"]);
    bench.ok(&["start"]);
    assert_eq!(bench.state().status, Status::Running);
    let client = Running::start(bench.command(&["console", "--read-only"]));
    client.wait_for("guest ready");
    assert!(bench.refused(&["delete"]).contains("has not ended"));
    bench.ok(&["kill"]);
    assert!(client.end().stdout.ends_with("guest powers off\r\n"));

    // It is there until it is deleted, and says how it ended.
    bench.wait_for_status(Status::Stopped);
    let termination = bench.state().termination.expect("it has ended");
    assert_eq!(termination.reason, Reason::Stopped);
    assert_eq!(bench.termination(), termination);
    assert!(bench.refused(&["start"]).contains("has ended"));
    bench.ok(&["delete"]);
    assert!(bench.refused(&["delete"]).contains("no VM runs"));
    bench.ok(&["delete", "--force"]);
    let text = std::fs::read_to_string(bench.path("console")).expect("read");
    assert_eq!(text, "guest ready\r\nguest powers off\r\n");
}

#[test]
fn delete_with_force_ends_the_vm_and_waits_for_the_shim() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("ignore-button");
    let quiet = Stdio::null;
    let created = bench
        .command(&["create"])
        .stdout(quiet())
        .stderr(quiet())
        .status();
    assert!(created.expect("it runs").success());
    bench.ok(&["start"]);
    bench.ok(&["delete", "--force"]);
    assert!(!bench.path("run/shim.sock").exists());
    assert_eq!(bench.termination().reason, Reason::Killed);
}

#[test]
fn console_clients_see_the_past_the_present_and_the_last_words() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("echo");
    let shim = bench.run();
    shim.wait_for("guest ready");

    let mut command = bench.command(&["console"]);
    command.stdin(Stdio::piped());
    let mut talker = Running::start(command);
    talker.wait_for("guest ready");
    let listener = Running::start(bench.command(&["console", "--read-only"]));
    listener.wait_for("guest ready");
    let mut input = talker.stdin();
    input.write_all(b"hello guest\n").expect("write");
    // It has nothing more to say, and still listens.
    drop(input);
    for console in [&shim, &talker, &listener] {
        console.wait_for("hello guest\r\n");
    }
    bench.ok(&["kill"]);
    for console in [shim, talker, listener] {
        let ended = console.end();
        ended.assert_code(0);
        assert_eq!(
            ended.stdout,
            "guest ready\r\nhello guest\r\nguest powers off\r\n"
        );
    }
}

#[test]
fn a_request_that_makes_no_sense_is_refused_and_costs_nothing() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("power-button");
    let shim = bench.run();
    shim.wait_for("guest ready");
    for request in [
        b"\xff\xfe\n".to_vec(),
        b"{\"call\": \"fly\"}\n".to_vec(),
        vec![b'x'; 2000],
    ] {
        let mut stream = UnixStream::connect(bench.path("run/shim.sock")).expect("connect");
        // The shim may close before it has taken all of a request too long.
        let _ = stream.write_all(&request);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.contains("refused"), "{answer}");
    }
    bench.ok(&["probe"]);
    bench.ok(&["kill"]);
    shim.end().assert_code(0);
}
