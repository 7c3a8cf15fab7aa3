//! What is refused before anything is written, and what is done once.

use std::fs::{self, File};

use crate::{
    kit::*,
    support::{Loop, MIB, has, run},
};

#[test]
fn a_target_that_is_too_small_or_holds_data_is_left_alone() {
    let Some(small) = Loop::new(8 * MIB, &[]) else {
        return;
    };
    let dir = tempfile::tempdir().expect("makes a directory");
    let image = arg(&raw(&dir));
    let said = bad(&import(&[&image, &small.path]), 2);
    assert!(said.contains("the image needs 12582912"), "{said}");
    holds(&small.path, &[], "too small");

    let Some(device) = Loop::new(16 * MIB, &[]) else {
        return;
    };
    for at in [0, 1080, MIB - 1, 15 * MIB, 16 * MIB - 1] {
        let file = File::options()
            .write(true)
            .open(&device.path)
            .expect("opens");
        let byte = |value: u8| {
            std::os::unix::fs::FileExt::write_all_at(&file, &[value], at).expect("writes");
            file.sync_all().expect("flushes");
        };
        byte(7);
        let said = bad(&import(&[&image, &device.path]), 2);
        assert!(said.contains("already holds data"), "{at}: {said}");
        byte(0);
        holds(&device.path, &[], "refused");
    }
    if has("mkfs.ext4") {
        good(&run("mkfs.ext4", &["-q", "-F", &device.path]));
        let said = bad(&import(&[&image, &device.path]), 2);
        assert!(said.contains("an ext file system"), "{said}");
    }
    good(&import(&[&image, &device.path, "--overwrite"]));
    holds(&device.path, &content(), "overwritten");
}

#[test]
fn images_that_need_another_file_or_a_repair_are_refused_with_the_way_out() {
    if !has("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let target = arg(&dir.path().join("target.img"));
    let base = arg(&qcow2(&dir, "base", &[]));
    let over = arg(&dir.path().join("over"));
    good(&run(
        "qemu-img",
        &[
            "create", "-q", "-f", "qcow2", "-b", &base, "-F", "qcow2", &over,
        ],
    ));
    let data = arg(&dir.path().join("data.raw"));
    let outside = arg(&dir.path().join("outside"));
    let option = format!("data_file={data}");
    good(&run(
        "qemu-img",
        &[
            "create", "-q", "-f", "qcow2", "-o", &option, &outside, "12M",
        ],
    ));
    let extended = arg(&qcow2(&dir, "extended", &["-o", "extended_l2=on"]));
    let dirty = arg(&qcow2(&dir, "dirty", &[]));
    let mut bytes = fs::read(&dirty).expect("reads");
    bytes[79] |= 1;
    fs::write(&dirty, &bytes).expect("writes");
    let vmdk = arg(&dir.path().join("vmdk"));
    good(&run("qemu-img", &["convert", "-O", "vmdk", &base, &vmdk]));
    let empty = arg(&dir.path().join("empty"));
    File::create(&empty).expect("creates");
    for (image, why) in [
        (&over, "backing file"),
        (&outside, "data is in another file"),
        (&extended, "extended L2"),
        (&dirty, "dirty"),
        (&vmdk, "VMDK"),
        (&empty, "is empty"),
        (&"ftp://x/y".to_owned(), "is not a source"),
        (&arg(&dir.path().join("none")), "No such file"),
    ] {
        let said = bad(&import(&[image, &target]), 2);
        assert!(said.contains(why), "{image}: {said}");
        assert!(!fs::exists(&target).expect("looks"), "{image}");
    }
}

#[test]
fn a_cut_image_makes_no_disk() {
    if !has("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let image = qcow2(&dir, "image", &[]);
    let packed = pack(&image, &["gzip", "-1c"]);
    for path in [image, packed] {
        let target = arg(&dir.path().join("target.img"));
        let bytes = fs::read(&path).expect("reads");
        fs::write(&path, &bytes[..bytes.len() / 2]).expect("cuts");
        bad(&import(&[&arg(&path), &target]), 2);
        let begin = fs::read(&target).expect("reads")[..512].to_vec();
        assert!(
            begin.starts_with(b"coracle.dev: an import"),
            "{}",
            path.display()
        );
        fs::remove_file(&target).expect("removes");
    }
}

#[test]
fn what_was_filled_is_never_filled_again() {
    let Some(device) = used_device(16 * MIB) else {
        return;
    };
    let dir = tempfile::tempdir().expect("makes a directory");
    let image = arg(&raw(&dir));
    let record = arg(&dir.path().join("record"));
    good(&import(&[&image, &device.path, "--record", &record]));
    // The guest writes, and the source goes away.
    soil(&device.path, 0, MIB);
    let before = fs::read(&device.path).expect("reads");
    fs::remove_file(&image).expect("removes");
    for options in [&[][..], &["--overwrite"]] {
        let again = import(&[&[&*image, &device.path, "--record", &record], options].concat());
        good(&again);
        assert!(String::from_utf8_lossy(&again.stdout).contains("was filled before"));
    }
    assert!(fs::read(&device.path).expect("reads") == before);
    fs::remove_file(&record).expect("removes");
    bad(&import(&[&image, &device.path, "--record", &record]), 2);
}

#[test]
fn a_failure_is_left_as_termination_message() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let log = arg(&dir.path().join("log"));
    let target = arg(&dir.path().join("target"));
    let output = import(&[
        "ftp://x",
        &target,
        "--termination-log",
        &log,
        "--disk",
        "root",
    ]);
    assert_eq!(output.status.code(), Some(2));
    let message: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&log).expect("is there")).expect("is JSON");
    assert_eq!(message["reason"], "ImportRefused");
    assert_eq!(message["disk"], "root");
}

#[test]
fn a_disk_with_data_is_a_reason_of_its_own() {
    let Some(device) = Loop::new(16 * MIB, &[]) else {
        return;
    };
    let dir = tempfile::tempdir().expect("makes a directory");
    let image = arg(&raw(&dir));
    good(&import(&[&image, &device.path]));
    let log = arg(&dir.path().join("log"));
    bad(
        &import(&[&image, &device.path, "--termination-log", &log]),
        2,
    );
    let message: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&log).expect("is there")).expect("is JSON");
    assert_eq!(message["reason"], "DiskNotEmpty");
}
