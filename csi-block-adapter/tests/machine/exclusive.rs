//! Who may have a disk beside whom.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Barrier},
    thread,
};

use coracle_api::{machine::Disk, report::TerminationReason::DiskBusy};
use coracle_block::device::{self, DeviceError, Holder, OpenDisk};

use crate::support::*;

fn reader(disk: Disk) -> Disk {
    Disk {
        read_only: true,
        ..disk
    }
}

fn sharer(disk: Disk) -> Disk {
    Disk {
        shareable: true,
        ..disk
    }
}

fn open(disk: &Disk) -> OpenDisk {
    device::open(disk).expect("opens")
}

fn busy(disk: &Disk) -> Vec<Holder> {
    let error = device::open(disk).expect_err("is refused");
    assert_eq!(error.reason(), DiskBusy);
    let DeviceError::Busy { holders, .. } = error else {
        panic!("{error:?}")
    };
    holders
}

#[test]
fn a_writable_device_is_kept_from_everybody_until_it_is_dropped() {
    let Some(device) = Loop::new(MIB, &[]) else {
        return;
    };
    let held = open(&device.disk());
    assert_eq!(busy(&device.disk()), []);
    assert_eq!(busy(&reader(device.disk())), []);
    assert_eq!(busy(&sharer(device.disk())), []);
    let message = device::open(&device.disk())
        .expect_err("is refused")
        .to_string();
    let expected = "is in use: mounted on the node, or held by another VM";
    assert_eq!(message, format!("{} {expected}", device.path));
    drop(held);
    children_have_started();
    open(&device.disk());
}

#[test]
fn another_node_of_a_held_device_does_not_help() {
    let Some(device) = Loop::new(MIB, &[]) else {
        return;
    };
    let dir = tempfile::tempdir().expect("makes a directory");
    let Some(node) = node(dir.path(), number(&device.path), 0o600) else {
        return;
    };
    let _held = open(&device.disk());
    assert_eq!(busy(&file_disk(Path::new(&node))), []);
}

#[test]
fn a_held_device_cannot_be_mounted() {
    if !has("mkfs.ext4") || !has("unshare") {
        return;
    }
    let Some(device) = Loop::new(8 * MIB, &[]) else {
        return;
    };
    let made = run("mkfs.ext4", &["-q", &device.path]);
    assert!(made.status.success(), "{made:?}");
    let _held = open(&device.disk());
    let script = "mount \"$1\" /mnt";
    let output = in_mount_namespace(script, &[&device.path]);
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("already mounted or"), "{stderr}");
}

#[test]
fn readers_of_a_device_read_beside_each_other() {
    let Some(device) = Loop::new(MIB, &[]) else {
        return;
    };
    let _first = open(&reader(device.disk()));
    open(&reader(device.disk()));
}

#[test]
fn shareable_devices_are_shared() {
    let Some(device) = Loop::new(MIB, &[]) else {
        return;
    };
    let _first = open(&sharer(device.disk()));
    open(&sharer(device.disk()));
}

#[test]
fn a_writable_image_is_kept_from_everybody_until_it_is_dropped() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let disk = file_disk(&image(&dir, MIB));
    let held = open(&disk);
    for other in [disk.clone(), reader(disk.clone()), sharer(disk.clone())] {
        assert_eq!(busy(&other), [Holder::Vm]);
    }
    assert_eq!(device::holders(&held.facts).expect("looks"), [Holder::Vm]);
    let facts = held.facts.clone();
    drop(held);
    children_have_started();
    assert_eq!(device::holders(&facts).expect("looks"), []);
    open(&disk);
}

#[test]
fn an_image_is_read_and_shared_beside_each_other() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let disk = file_disk(&image(&dir, MIB));
    for disk in [reader(disk.clone()), sharer(disk.clone())] {
        let _first = open(&disk);
        let _second = open(&disk);
        // A writer is not let in beside them.
        assert_eq!(
            busy(&Disk {
                read_only: false,
                shareable: false,
                ..disk
            }),
            [Holder::Vm]
        );
    }
}

#[test]
fn one_of_many_that_start_at_once_creates_and_gets_the_image() {
    const STARTERS: usize = 8;
    let dir = tempfile::tempdir().expect("makes a directory");
    let disk = new_file_disk(&dir.path().join("disk.img"), 64 * MIB);
    let barrier = Arc::new(Barrier::new(STARTERS));
    let starters: Vec<_> = (0..STARTERS)
        .map(|_| {
            let (disk, barrier) = (disk.clone(), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                let result = device::open(&disk);
                // Nobody lets go before everybody has tried.
                barrier.wait();
                result.map(|open| open.facts.size_bytes)
            })
        })
        .collect();
    let results: Vec<_> = starters
        .into_iter()
        .map(|starter| starter.join().expect("does not panic"))
        .collect();
    let sizes: Vec<_> = results.iter().flatten().collect();
    assert_eq!(sizes, [&(64 * MIB)], "{results:?}");
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(error.reason(), DiskBusy, "{error}");
    }
}

#[test]
fn an_image_is_created_sparse_and_one_that_is_there_stays_as_it_is() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let path = dir.path().join("disk.img");
    let facts = open(&new_file_disk(&path, 1 << 40)).facts;
    assert_eq!(facts.size_bytes, 1 << 40);
    assert_eq!(fs::metadata(&path).expect("is there").blocks(), 0);

    fs::write(&path, vec![7; 4096]).expect("writes");
    let facts = open(&new_file_disk(&path, 1 << 40)).facts;
    assert_eq!(facts.size_bytes, 4096);
    assert_eq!(fs::read(&path).expect("reads"), vec![7; 4096]);
}

#[test]
fn an_image_whose_creation_was_cut_off_is_given_its_size() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let path = image(&dir, 0);
    for disk in [new_file_disk(&path, MIB), reader(new_file_disk(&path, MIB))] {
        assert_eq!(open(&disk).facts.size_bytes, MIB);
        fs::File::create(&path).expect("truncates");
    }
}

#[test]
fn an_ephemeral_disk_is_created() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let path = text(&dir.path().join("disk.img"));
    let source = coracle_api::machine::DiskSource::Ephemeral {
        path: path.clone(),
        size_bytes: 3 * MIB,
    };
    assert_eq!(open(&disk(source)).facts.size_bytes, 3 * MIB);
    assert!(Path::new(&path).exists());
}

#[test]
fn a_device_in_place_of_an_image_is_kept_as_a_device() {
    let Some(device) = Loop::new(MIB, &[]) else {
        return;
    };
    let disk = new_file_disk(Path::new(&device.path), 64 * MIB);
    let held = open(&disk);
    assert_eq!(held.facts.size_bytes, MIB);
    assert!(matches!(held.facts.kind, device::Kind::Block { .. }));
    busy(&device.disk());
}
