//! Disks in container images: a guest boots from one, and what it writes is
//! the pod's.

use std::fs;

use coracle_api::{machine::DiskSource, report::TerminationReason as Reason, types::DiskBus};

use crate::{
    bench::{Bench, has_qemu},
    disks::stop,
};

/// A VM whose root disk is this guest's, in a container image.
fn bench(guest: &str, read_only: bool) -> Bench {
    let mut bench = Bench::new(guest);
    fs::create_dir_all(bench.path("image/disk")).expect("mkdir");
    fs::create_dir(bench.path("overlay")).expect("mkdir");
    fs::rename(bench.path("disk.img"), bench.path("image/disk/root.img")).expect("rename");
    let path = |name: &str| bench.path(name).display().to_string();
    bench.machine.disks[0].source = DiskSource::Image {
        root: path("image"),
        path: None,
        overlay: (!read_only).then(|| path("overlay")),
        size_bytes: None,
    };
    bench.machine.disks[0].read_only = read_only;
    bench.write_machine();
    bench
}

#[test]
fn a_guest_writes_over_its_image_and_finds_it_when_it_starts_again_in_the_pod() {
    if !has_qemu() {
        return;
    }
    let bench = bench("logbook", false);
    let image = bench.path("image/disk/root.img");
    let before = fs::read(&image).expect("reads");
    for expected in 1..=2 {
        let shim = bench.run();
        shim.wait_for("guest ready");
        let disk = bench.state().disks.remove(0);
        assert_eq!(disk.size_bytes, 1 << 20);
        let decided = disk.decisions.iter().find(|d| d.setting == "image");
        assert_eq!(decided.expect("is told").value, "raw under an overlay");
        assert_eq!(disk.notes, [""; 0]);
        stop(shim);
        assert_eq!(boots(&bench), expected);
    }
    assert!(
        fs::read(&image).expect("reads") == before,
        "the image was written to"
    );

    // A tag has moved: the overlay is of no use any more, and that is told.
    fs::copy(&image, bench.path("other")).expect("copies");
    fs::rename(bench.path("other"), &image).expect("renames");
    let shim = bench.run();
    shim.wait_for("guest ready");
    let notes = bench.state().disks.remove(0).notes;
    assert!(
        notes[0].contains("another one than at the last start"),
        "{notes:?}"
    );
    stop(shim);
    assert_eq!(boots(&bench), 1);
}

/// How many times the guest `logbook` has booted, which is in the second sector
/// of its disk, and so in the first cluster of the only overlay there is.
fn boots(bench: &Bench) -> u32 {
    let mut overlays = fs::read_dir(bench.path("overlay")).expect("reads");
    let overlay = overlays.next().expect("is there").expect("reads").path();
    assert!(overlays.next().is_none());
    let bytes = fs::read(overlay).expect("reads");
    // Header, first table, second table, cluster: without the flags.
    let place = |at: usize| {
        let entry = u64::from_be_bytes(bytes[at..at + 8].try_into().expect("has 8 bytes"));
        usize::try_from(entry & 0x00ff_ffff_ffff_fe00).expect("is small")
    };
    let sector = place(place(place(40))) + 512;
    u32::from_le_bytes(bytes[sector..sector + 4].try_into().expect("has 4 bytes"))
}

#[test]
fn a_guest_that_may_only_read_boots_from_the_image_itself() {
    if !has_qemu() {
        return;
    }
    let mut bench = bench("power-button", true);
    bench.machine.disks[0].bus = DiskBus::Scsi;
    bench.write_machine();
    let shim = bench.run();
    shim.wait_for("guest ready");
    let disk = bench.state().disks.remove(0);
    assert!(disk.read_only);
    assert!(disk.path.ends_with("image/disk/root.img"), "{}", disk.path);
    stop(shim);
    assert_eq!(
        fs::read_dir(bench.path("overlay")).expect("reads").count(),
        0
    );
}

#[test]
fn an_image_with_two_disks_ends_the_vm_with_one_sentence() {
    let bench = bench("power-button", false);
    fs::write(bench.path("image/disk/two.img"), [0; 512]).expect("writes");
    bench.run().end().assert_code(3);
    let termination = bench.termination();
    assert_eq!(termination.reason, Reason::DiskInvalid);
    assert_eq!(termination.disk.as_deref(), Some("root"));
    let said = termination.message;
    assert!(
        said.contains("several files in /disk (root.img, two.img)"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}
