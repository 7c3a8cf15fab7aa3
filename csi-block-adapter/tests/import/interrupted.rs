//! An import that is killed anywhere leaves no disk, and the next one makes
//! one.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
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
