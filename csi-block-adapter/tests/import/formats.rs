//! Every format and compression, from files and from streams, and back.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
};

use crate::{
    kit::*,
    support::{MIB, has, run, skipped},
};

/// qemu-img's options for each kind of image.
const KINDS: [(&str, &[&str]); 7] = [
    ("v3", &[]),
    ("v2", &["-o", "compat=0.10"]),
    ("zlib", &["-c"]),
    ("zstd", &["-c", "-o", "compression_type=zstd"]),
    ("small", &["-o", "cluster_size=512"]),
    ("large", &["-o", "cluster_size=2M"]),
    ("large-zlib", &["-c", "-o", "cluster_size=2M"]),
];

#[test]
fn every_qcow2_kind_arrives_from_a_file_and_from_a_pipe() {
    if !has("qemu-img") {
        return;
    }
    let Some(device) = used_device(16 * MIB) else {
        return;
    };
    let dir = tempfile::tempdir().expect("makes a directory");
    let expected = content();
    for (name, options) in KINDS {
        let image = qcow2(&dir, name, options);
        soil(&device.path, 0, 16 * MIB);
        good(&import(&[&arg(&image), &device.path, "--overwrite"]));
        holds(&device.path, &expected, name);
        soil(&device.path, 0, 16 * MIB);
        good(&import_piped(&image, &[&device.path, "--overwrite"]));
        holds(&device.path, &expected, &format!("{name} piped"));
    }
}

#[test]
fn every_compression_arrives_from_a_file_and_from_a_pipe() {
    if !has("qemu-img") {
        return;
    }
    let Some(device) = used_device(16 * MIB) else {
        return;
    };
    let dir = tempfile::tempdir().expect("makes a directory");
    let expected = content();
    for image in [raw(&dir), qcow2(&dir, "image", &[])] {
        let mut forms: Vec<PathBuf> = vec![image.clone()];
        for packer in [&["gzip", "-1c"][..], &["zstd", "-1qc"], &["xz", "-0c"]] {
            if has(packer[0]) {
                forms.push(pack(&image, packer));
            }
        }
        for form in forms {
            soil(&device.path, 0, 16 * MIB);
            good(&import(&[&arg(&form), &device.path, "--overwrite"]));
            holds(&device.path, &expected, &arg(&form));
            soil(&device.path, 0, 16 * MIB);
            good(&import_piped(&form, &[&device.path, "--overwrite"]));
            holds(
                &device.path,
                &expected,
                &format!("{} piped", form.display()),
            );
        }
    }
}

#[test]
fn a_disk_on_4096_byte_sectors_and_one_from_another_device_arrive() {
    let Some(device) = crate::support::Loop::new(16 * MIB, &["--sector-size", "4096"]) else {
        return;
    };
    let dir = tempfile::tempdir().expect("makes a directory");
    let image = raw(&dir);
    good(&import(&[&arg(&image), &device.path]));
    holds(&device.path, &content(), "4096");
    let Some(second) = used_device(16 * MIB) else {
        return;
    };
    good(&import(&[&device.path, &second.path]));
    holds(&second.path, &content(), "device");
}

#[test]
fn a_new_file_is_sparse_and_as_large_as_wanted() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().expect("makes a directory");
    let target = dir.path().join("disk.img");
    let image = raw(&dir);
    good(&import(&[
        &arg(&image),
        &arg(&target),
        "--size",
        "67108864",
    ]));
    let found = target.metadata().expect("is there");
    assert_eq!(found.len(), 64 * MIB);
    assert!(found.blocks() * 512 <= 9 * MIB, "{} blocks", found.blocks());
    holds(&arg(&target), &content(), "file");
}

#[test]
fn tables_behind_the_data_need_a_source_that_can_be_read_again() {
    if !has("qemu-img") || !has("qemu-io") {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let image = arg(&qcow2(&dir, "grown", &["-o", "cluster_size=4k"]));
    // The first table outgrows its cluster and moves to the end.
    good(&run(
        "qemu-img",
        &["resize", "-q", "-f", "qcow2", &image, "2G"],
    ));
    let target = arg(&dir.path().join("disk.img"));
    let refused = bad(&import_piped(image.as_ref(), &[&target]), 2);
    assert!(refused.contains("tables behind its data"), "{refused}");
    std::fs::remove_file(&target).expect("removes it");
    let packed = pack(image.as_ref(), &["gzip", "-1c"]);
    good(&import(&[&arg(&packed), &target]));
    good(&run(
        "qemu-img",
        &["compare", "-q", "-f", "qcow2", "-F", "raw", &image, &target],
    ));
}

#[test]
fn an_export_is_a_sound_image_of_the_same_disk_and_comes_back_from_a_pipe() {
    if !has("qemu-img") {
        return;
    }
    let Some(device) = used_device(16 * MIB) else {
        return;
    };
    let dir = tempfile::tempdir().expect("makes a directory");
    good(&import(&[&arg(&raw(&dir)), &device.path]));
    let back = arg(&dir.path().join("back.img"));
    for (name, options) in [
        ("plain.qcow2", &[][..]),
        ("zlib.qcow2", &["--compress", "zlib"]),
        ("zstd.qcow2", &["--compress", "zstd"]),
    ] {
        let file = arg(&dir.path().join(name));
        good(&run(
            BINARY,
            &[&["export", &device.path, &file], options].concat(),
        ));
        good(&run("qemu-img", &["check", "-q", &file]));
        let compare = [
            "compare",
            "-q",
            "-f",
            "raw",
            "-F",
            "qcow2",
            &device.path,
            &file,
        ];
        good(&run("qemu-img", &compare));
        good(&import_piped(file.as_ref(), &[&back, "--overwrite"]));
        holds(&back, &content(), name);
        bad(&run(BINARY, &["export", &device.path, &file]), 2);
    }
    let file = arg(&dir.path().join("plain.raw"));
    good(&run(BINARY, &["export", &device.path, &file]));
    holds(&file, &content(), "raw");
}

#[test]
fn memory_stays_below_64_mib_whatever_the_source() {
    if !has("xz") || !has("zstd") || !has("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let large = dir.path().join("large.raw");
    let mut bytes = noise(34 * MIB, 7);
    bytes.extend_from_within(..8 << 20);
    std::fs::write(&large, &bytes).expect("writes");
    let target = arg(&dir.path().join("disk.img"));
    File::create(&target)
        .and_then(|file| file.set_len(96 * MIB))
        .expect("makes a file");
    let qcow = arg(&dir.path().join("large.qcow2"));
    let convert = [
        "convert",
        "-c",
        "-f",
        "raw",
        "-O",
        "qcow2",
        "-o",
        "cluster_size=2M",
    ];
    good(&run(
        "qemu-img",
        &[&convert[..], &[&arg(&large), &qcow]].concat(),
    ));
    let sources = [
        arg(&large),
        qcow,
        arg(&pack(
            &large,
            &["xz", "-T1", "--lzma2=preset=0,dict=32MiB", "-c"],
        )),
        arg(&pack(&large, &["zstd", "-1", "--long=25", "-qc"])),
        arg(&pack(&large, &["gzip", "-1c"])),
    ];
    for source in sources {
        let Some(peak) = peak_kib(&source, &target) else {
            skipped("python3 is not installed, which tells the memory of a child");
            return;
        };
        assert!(peak <= 64 << 10, "{source}: {peak} KiB");
        holds(&target, &bytes, &source);
    }
}

/// Largest resident memory of an import, in KiB, as wait4 tells it.
fn peak_kib(source: &str, target: &str) -> Option<u64> {
    let script = "import resource, subprocess, sys\n\
                  subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n\
                  print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let output = Command::new("python3")
        .args([
            "-c",
            script,
            BINARY,
            "import",
            source,
            target,
            "--overwrite",
            "--quiet",
        ])
        .output()
        .ok()?;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// What a guest wrote is never read as an image: it could have written one.
#[test]
fn a_raw_source_is_taken_as_it_is() {
    if !has("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let image = qcow2(&dir, "image", &[]);
    let target = arg(&dir.path().join("target"));
    for source in [pack(&image, &["gzip", "-c"]), image] {
        let bytes = fs::read(&source).expect("reads");
        let size = bytes.len().next_multiple_of(512).to_string();
        good(&import(&[&arg(&source), &target, "--raw"]));
        holds(&target, &bytes, "from a file");
        fs::remove_file(&target).expect("removes");
        good(&import_piped(&source, &[&target, "--raw", "--size", &size]));
        holds(&target, &bytes, "from a stream");
        fs::remove_file(&target).expect("removes");
    }
}
