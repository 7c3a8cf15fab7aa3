//! An import that is killed anywhere leaves no disk, and the next one makes
//! one.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    kit::*,
    support::{has, spawn},
};

#[test]
fn a_killed_import_starts_over_and_gives_the_right_bytes() {
    if !has("qemu-img") {
        return;
    }
    let Some(device) = used_device(16 << 20) else {
        return;
    };
    let dir = tempfile::tempdir().expect("makes a directory");
    let record = arg(&dir.path().join("record"));
    for path in [raw(&dir), qcow2(&dir, "image", &[])] {
        let image = fs::read(&path).expect("reads");
        let points = noise(5, 3);
        for point in points {
            let sent = image.len() * usize::from(point) / 256;
            let mut child = spawn(
                Command::new(BINARY)
                    .args([
                        "import",
                        "-",
                        &device.path,
                        "--overwrite",
                        "--record",
                        &record,
                    ])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null()),
            );
            // All but a pipe's capacity was taken when this returns.
            let mut stdin = child.stdin.take().expect("is piped");
            stdin.write_all(&image[..sent]).expect("feeds");
            child.kill().expect("kills");
            child.wait().expect("waits");
            assert!(!fs::exists(&record).expect("looks"), "at {sent}");
            let begin = fs::read(&device.path).expect("reads")[..512].to_vec();
            let marked = begin.starts_with(b"coracle.dev: an import is in progress");
            assert!(marked || sent < 2 << 20, "at {sent}");
            // No --overwrite: what was interrupted is no data.
            let overwrite: &[&str] = if marked { &[] } else { &["--overwrite"] };
            good(&import_piped(
                &path,
                &[&[&*device.path], overwrite].concat(),
            ));
            holds(&device.path, &content(), &format!("after {sent}"));
        }
    }
}

/// The first process of a container has no default for the signal.
#[test]
fn an_import_ends_when_it_is_asked_to() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let target = arg(&dir.path().join("target"));
    let mut child = spawn(
        Command::new(BINARY)
            .args(["import", "-", &target, "--size", "16777216"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    // All but a pipe's capacity was taken when this returns: it is at work.
    let mut stdin = child.stdin.take().expect("is piped");
    stdin.write_all(&noise(8 << 20, 5)).expect("feeds");
    kill(
        Pid::from_raw(child.id().try_into().expect("a pid")),
        Signal::SIGTERM,
    )
    .expect("asks");
    assert_eq!(child.wait().expect("waits").code(), Some(143));
    let begin = fs::read(&target).expect("reads")[..512].to_vec();
    assert!(begin.starts_with(b"coracle.dev: an import is in progress"));
}
