//! Disks that get another size while their guest runs.

use std::{fs::File, path::Path, time::Instant};

use coracle_api::machine::DiskSource;
use nix::sys::signal::Signal;

use crate::{
    bench::{Bench, has_qemu},
    devices::{Loop, image},
    disks::{MIB, direct, stop, wait_for_disk, with_data},
};

/// What the guest `size` says of a disk of this size.
fn size_line(bytes: u64) -> String {
    format!("size {:08x}", bytes / 512)
}

#[test]
fn a_device_that_grows_is_seen_by_the_guest_and_one_that_shrinks_is_not() {
    if !has_qemu() {
        return;
    }
    let mut bench = Bench::new("size");
    let Some(device) = Loop::new(&bench.path("disk.img")) else {
        return;
    };
    bench.machine.disks[0].source = DiskSource::Block {
        path: device.path().to_owned(),
    };
    direct(&mut bench.machine.disks[0]);
    bench.write_machine();
    let shim = bench.run();
    shim.wait_for(&size_line(MIB));

    let start = Instant::now();
    device.resize(5 * MIB);
    shim.wait_for(&size_line(5 * MIB));
    eprintln!(
        "from the device's growth to the guest: {:?}",
        start.elapsed()
    );
    let disk = wait_for_disk(&bench, "root", |disk| disk.size_bytes == 5 * MIB);
    assert_eq!(
        disk.notes,
        ["grew from 1048576 to 5242880 bytes; the guest sees it"]
    );

    device.resize(3 * MIB);
    let disk = wait_for_disk(&bench, "root", |disk| disk.notes.len() == 2);
    assert!(disk.notes[1].starts_with("shrank from 5242880 to 3145728 bytes"));
    assert_eq!(disk.size_bytes, 5 * MIB);
    shim.wait_for_log("kept from the guest");

    // Back to what the guest knows is no news, and more is.
    device.resize(6 * MIB);
    shim.wait_for(&size_line(6 * MIB));
    stop(shim);
    assert_eq!(bench.termination().message.find("shrank"), None);
}

#[test]
fn a_device_that_has_shrunk_is_told_of_where_the_end_of_the_vm_is() {
    if !has_qemu() {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let Some(device) = Loop::new(&image(dir.path(), 4 * MIB)) else {
        return;
    };
    let bench = with_data("power-button", Path::new(device.path()), direct);
    let shim = bench.run();
    shim.wait_for("guest ready");
    device.resize(3 * MIB);
    wait_for_disk(&bench, "data", |disk| !disk.notes.is_empty());
    shim.signal(Signal::SIGTERM);
    let ended = shim.end();
    ended.assert_code(0);
    let said = "disk \"data\" shrank from 4194304 to 3145728 bytes while the guest ran";
    let termination = bench.termination();
    assert!(
        termination.message.contains(said),
        "{}",
        termination.message
    );
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

#[test]
fn an_image_that_its_owner_makes_larger_is_seen_by_the_guest() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("size");
    let shim = bench.run();
    shim.wait_for(&size_line(MIB));
    let image = File::options()
        .write(true)
        .open(bench.path("disk.img"))
        .expect("opens");
    image.set_len(7 * MIB).expect("grows");
    drop(image);
    shim.wait_for(&size_line(7 * MIB));
    stop(shim);
}

#[test]
fn a_read_only_disk_that_grows_is_noted() {
    if !has_qemu() {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let path = image(dir.path(), MIB);
    let bench = with_data("power-button", &path, |disk| disk.read_only = true);
    let shim = bench.run();
    shim.wait_for("guest ready");
    File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(2 * MIB))
        .expect("grows");
    let disk = wait_for_disk(&bench, "data", |disk| !disk.notes.is_empty());
    assert!(disk.notes[0].contains("when the VM is started again"));
    stop(shim);
}

#[test]
fn a_guest_that_grows_under_load_reads_what_it_wrote() {
    if !has_qemu() {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let path = image(dir.path(), MIB);
    let Some(device) = Loop::new(&path) else {
        return;
    };
    let bench = with_data("journal", Path::new(device.path()), direct);
    let shim = bench.run();
    for (line, size) in [("00000010 is", 2), ("00000040 is", 3), ("00000080 is", 4)] {
        shim.wait_for(line);
        device.resize(size * MIB);
        wait_for_disk(&bench, "data", |disk| disk.size_bytes == size * MIB);
    }
    shim.wait_for("00000100 is");
    shim.signal(Signal::SIGTERM);
    let ended = shim.end();
    ended.assert_code(0);
    assert!(ended.stdout.ends_with("guest powers off\r\n"));
}
