//! Devices that fail under a guest that writes: without room below, refusing,
//! taken away, and another disk in their place.

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use coracle_api::report::{Status, TerminationReason as Reason};
use nix::sys::signal::Signal;

use crate::{
    bench::{Bench, Running, has_qemu},
    devices::{Loop, Tmpfs, image},
    disks::{MIB, check_all, direct, stop, wait_for_disk, with_data},
};

/// Has the guest go on for a while, ends it, and looks whether the disk has
/// what the guest says that it wrote.
fn goes_on(shim: Running, line: &str, device: &Loop) {
    shim.wait_for(line);
    shim.signal(Signal::SIGTERM);
    let ended = shim.end();
    ended.assert_code(0);
    assert!(!ended.stdout.contains("disk error"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("something else"), "{}", ended.stdout);
    check_all(Path::new(device.path()), &ended.stdout);
}

/// Why the guest is not ready, in the words for the pod's events.
fn not_ready(bench: &Bench) -> String {
    bench.refused(&["probe"])
}

#[test]
fn a_guest_on_a_device_that_has_no_room_below_goes_on_by_itself_once_there_is_some() {
    if !has_qemu() {
        return;
    }
    let Some(full) = Tmpfs::new(256 << 10) else {
        return;
    };
    let below = image(full.dir(), MIB);
    let Some(device) = Loop::new(&below) else {
        return;
    };
    fs::write(full.path("ballast"), vec![1; 192 << 10]).expect("fills the file system");
    let bench = with_data("journal", Path::new(device.path()), direct);
    let shim = bench.run();
    shim.wait_for_log("the disk has no room");
    bench.wait_for_status(Status::Paused);
    let disk = wait_for_disk(&bench, "data", |disk| disk.last_error.is_some());
    let error = disk.last_error.expect("is there");
    assert!(error.no_space && error.stopped && error.operation == "write");
    let said = not_ready(&bench);
    assert!(
        said.contains("last error of disk \"data\": write"),
        "{said}"
    );

    full.grow(8 * MIB);
    goes_on(shim, "00000500 is", &device);
}

#[test]
fn a_device_that_refuses_every_write_stops_the_guest_until_it_is_well() {
    if !has_qemu() {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let Some(below) = Loop::new(&image(dir.path(), 2 * MIB)) else {
        return;
    };
    let Some(device) = Loop::new(Path::new(below.path())) else {
        return;
    };
    let bench = with_data("journal", Path::new(device.path()), direct);
    let shim = bench.run();
    shim.wait_for("00000020 is");
    below.set_read_only(true);
    shim.wait_for_log("disk error: the guest waits");
    let disk = wait_for_disk(&bench, "data", |disk| disk.last_error.is_some());
    let error = disk.last_error.expect("is there");
    assert!(!error.no_space && error.stopped && error.operation == "write");
    // It was let try, in vain, and the VM is there as before.
    wait_for_disk(&bench, "data", |disk| {
        disk.last_error
            .as_ref()
            .is_some_and(|error| error.count > 2)
    });

    below.set_read_only(false);
    goes_on(shim, "00000200 is", &device);
    // The guest writes to the first MiB only.
    let mut bytes = Vec::new();
    File::open(device.path())
        .and_then(|mut disk| disk.read_to_end(&mut bytes))
        .expect("reads");
    let beyond = &bytes[usize::try_from(MIB).expect("is small")..];
    assert!(beyond.iter().all(|byte| *byte == 0), "somebody else wrote");
}

#[test]
fn a_device_that_is_detached_under_load_stays_the_guest_s_and_is_refused_afterwards() {
    if !has_qemu() {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let Some(device) = Loop::new(&image(dir.path(), MIB)) else {
        return;
    };
    let other = dir.path().join("other.img");
    fs::write(&other, vec![0x5a; 1 << 20]).expect("makes another image");
    let bench = with_data("journal", Path::new(device.path()), direct);
    let shim = bench.run();
    shim.wait_for("00000020 is");
    device.detach();
    assert!(!device.reuse(&other), "the guest's device became another");
    shim.wait_for("00000100 is");
    stop(shim);

    // Nothing is behind the numbers now, unless a neighbour was fast.
    let refused = || {
        bench.run().end().assert_code(3);
        let reason = bench.termination().reason;
        let of_a_disk = [Reason::DiskInvalid, Reason::DiskNotFound, Reason::DiskBusy];
        assert!(of_a_disk.contains(&reason), "{reason:?}");
        assert_eq!(bench.termination().disk.as_deref(), Some("data"));
    };
    refused();
    if !device.reuse(&other) {
        eprintln!("skipped: somebody else has {} by now", device.path());
        return;
    }
    refused();
    let message = bench.termination().message;
    assert!(message.contains("is not the disk it was"), "{message}");
    let bytes = fs::read(&other).expect("reads");
    assert!(bytes.iter().all(|byte| *byte == 0x5a), "it was written to");
}
