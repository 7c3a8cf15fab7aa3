//! The facts, and the binary that prints them.

use coracle_block::device::{self, Discard, Kind};

use crate::support::*;

const BINARY: &str = env!("CARGO_BIN_EXE_coracle-block");

#[test]
fn the_sector_sizes_are_the_device_s_own() {
    let Some(device) = Loop::new(MIB, &["--sector-size", "4096"]) else {
        return;
    };
    let facts = device::open(&device.disk()).expect("opens").facts;
    assert_eq!(facts.logical_block_size, 4096);
    assert_eq!(facts.physical_block_size, 4096);
    assert_eq!(facts.size_bytes, MIB);
    assert!(!facts.read_only);
    assert_eq!(
        device::inspect(device.path.as_ref()).expect("inspects"),
        facts
    );
}

#[test]
fn a_device_is_inspected_while_a_vm_has_it() {
    let Some(device) = Loop::new(MIB, &[]) else {
        return;
    };
    let held = device::open(&device.disk()).expect("opens");
    let seen = success(&run(BINARY, &["inspect", "--json", &device.path]));
    let Kind::Block { major, minor } = held.facts.kind else {
        panic!("{:?}", held.facts);
    };
    assert_eq!(seen["path"], device.path);
    assert_eq!(seen["kind"], "Block");
    assert_eq!(seen["major"], major);
    assert_eq!(seen["minor"], minor);
    assert_eq!(seen["sizeBytes"], MIB);
    assert_eq!(seen["logicalBlockSize"], 512);
    assert_eq!(seen["readOnly"], false);
    // A loop device on a file passes discards on, and sysfs says so.
    assert!(matches!(
        held.facts.discard,
        Discard::Supported { .. } | Discard::Unknown
    ));
}

#[test]
fn people_get_a_table_with_qemu_s_options() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let path = text(&image(&dir, 3 << 29));
    let output = run(BINARY, &["inspect", &path]);
    assert!(output.status.success(), "{output:?}");
    let stdout = String::from_utf8(output.stdout).expect("is text");
    // What the sandbox and qemu allow here is their business.
    let lines = stdout.lines().map(|line| match line.trim_start() {
        aio if aio.starts_with("aio ") => "  aio (as this machine has it)".to_owned(),
        _ => line.replace(r#""aio":"io_uring""#, r#""aio":"native""#),
    });
    let stdout = lines.collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(stdout.replace(&path, "/images/disk.img"), @r#"
    /images/disk.img
      kind         image file
      size         1.5 GiB (1610612736 bytes)
      sectors      512 bytes logical, 512 bytes physical
      medium       unknown
      discard      unknown
      read-only    no
      in use       no
      holds        nothing: it begins with zeroes only
      cache        none: direct I/O; the guest's flushes reach the device
      aio (as this machine has it)
      discard      unmap: the file system decides what it frees
      detectZeroes off: looking for zeroes costs a pass over every write
      blockSize    512/512: the device's
      errorPolicy  stop: the guest waits, and goes on by itself once there is space again or the device is well
      queues       1: one for each virtual CPU
      iothread     no: qemu's main loop does the I/O
      qemu         -blockdev '{"driver":"file","node-name":"disk0","filename":"/images/disk.img","cache":{"direct":true,"no-flush":false},"aio":"native","discard":"unmap","detect-zeroes":"off","read-only":false,"auto-read-only":false,"locking":"on"}' \
                   -device 'virtio-blk-pci,id=disk0,drive=disk0,serial=disk,num-queues=1,write-cache=on,werror=stop,rerror=stop,share-rw=off'
    "#);
}

#[test]
fn a_failure_is_told_on_standard_error_with_the_shim_s_exit_code() {
    let output = run(BINARY, &["inspect", "/nonexistent/disk"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "coracle-block: /nonexistent/disk does not exist: the claim's volume was not given to the \
         pod\n"
    );
    assert_eq!(run(BINARY, &["inspect"]).status.code(), Some(2));
}

/// What the binary says a disk with this content holds.
fn content(path: &std::path::Path) -> serde_json::Value {
    success(&run(BINARY, &["inspect", "--json", &text(path)]))["content"].clone()
}

#[test]
fn file_systems_are_known_by_their_marks() {
    let makers: [(&str, &[&str], &str); 4] = [
        ("mkfs.ext4", &["-q", "-F"], "ext2/3/4"),
        ("mkswap", &[], "swap"),
        ("mkfs.vfat", &[], "vfat"),
        ("mkfs.xfs", &["-q", "-f"], "xfs"),
    ];
    for (program, options, mark) in makers {
        if !has(program) {
            continue;
        }
        let dir = tempfile::tempdir().expect("makes a directory");
        let path = image(&dir, 512 * MIB);
        let mut arguments: Vec<String> = options.iter().map(|&text| text.to_owned()).collect();
        arguments.push(text(&path));
        let made = run(program, &arguments);
        assert!(made.status.success(), "{made:?}");
        let content = content(&path);
        assert_eq!(
            content["signatures"],
            serde_json::json!([mark]),
            "{program}"
        );
        assert_eq!(content["partitionTable"], serde_json::Value::Null);
        assert_eq!(content["blank"], false);
    }
}

#[test]
fn partitions_are_listed_with_what_they_hold() {
    if !has("sfdisk") || !has("mkfs.ext4") {
        return;
    }
    for (kind, label) in [("mbr", "dos"), ("gpt", "gpt")] {
        let dir = tempfile::tempdir().expect("makes a directory");
        let path = image(&dir, 64 * MIB);
        let script = format!("label: {label}\nstart=1MiB, size=8MiB\nstart=16MiB, size=8MiB\n");
        let table = dir.path().join("table");
        std::fs::write(&table, script).expect("writes");
        let made = run(
            "sh",
            &[
                "-ec",
                "sfdisk -q \"$1\" <\"$2\"",
                "sh",
                &text(&path),
                &text(&table),
            ],
        );
        assert!(made.status.success(), "{made:?}");
        let offset = format!("offset={}", 16 * MIB);
        let made = run(
            "mkfs.ext4",
            &["-q", "-F", "-E", &offset, &text(&path), "8M"],
        );
        assert!(made.status.success(), "{made:?}");
        let partitions = &content(&path)["partitionTable"];
        assert_eq!(partitions["kind"], kind);
        let expected = serde_json::json!([
            {"number": 1, "startBytes": MIB, "sizeBytes": 8 * MIB, "signatures": []},
            {"number": 2, "startBytes": 16 * MIB, "sizeBytes": 8 * MIB, "signatures": ["ext2/3/4"]},
        ]);
        assert_eq!(partitions["partitions"], expected);
    }
}
