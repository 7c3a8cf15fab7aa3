//! Every refusal, with the words it comes in.

use super::*;

fn refusal(dir: &TempDir, path: &Path, access: Access) -> VolumeError {
    let error = attach_to(dir, path, access).expect_err("refused");
    assert!(
        !dir.path().join("nodes/data").exists(),
        "a node was left behind"
    );
    error
}

#[test]
fn paths_that_are_no_disk() {
    let Some(dir) = workplace() else { return };
    let missing = dir.path().join("missing");
    let error = refusal(&dir, &missing, Access::Exclusive);
    assert_eq!(
        message(&error),
        format!(
            "volume \"data\": {} does not exist; name a block device, an image file \
             (`truncate -s 10G FILE` makes an empty one) or, for a claim of volumeMode \
             Filesystem, a directory",
            missing.display()
        )
    );
    let error = refusal(&dir, Path::new("/dev/null"), Access::Exclusive);
    assert_eq!(
        message(&error),
        "volume \"data\": /dev/null is a character device, neither a block device nor an image \
         file, which a claim of volumeMode Block needs"
    );
    let error = refusal(&dir, dir.path(), Access::Exclusive);
    assert!(
        matches!(
            error,
            VolumeError::NotADisk {
                what: "directory",
                ..
            }
        ),
        "{error:?}"
    );
    let file = image(&dir, "a.img");
    let error = refusal(&dir, &file.join("below"), Access::Exclusive);
    assert!(
        matches!(error, VolumeError::Inaccessible { .. }),
        "{error:?}"
    );
}

#[test]
fn files_that_are_no_directory_and_modes_that_are_none() {
    let Some(dir) = workplace() else { return };
    let file = image(&dir, "a.img");
    let options = options(&dir, Access::Exclusive);
    let error = attach(&arg(&file), &claim("Filesystem", "1Mi"), &options).expect_err("file");
    assert_eq!(
        message(&error),
        format!(
            "volume \"data\": {} is a file, and the claim has volumeMode Filesystem, which a \
             directory plays; name a directory, or set volumeMode: Block in the claim",
            file.display()
        )
    );
    let error = attach(&arg(&file), &claim("Raw", "1Mi"), &options).expect_err("mode");
    assert!(
        matches!(error, VolumeError::UnknownMode { .. }),
        "{error:?}"
    );
    let error = attach(&arg(&file), &claim("Block", "much"), &options).expect_err("request");
    assert!(matches!(error, VolumeError::Request { .. }), "{error:?}");
}

#[test]
fn images_of_a_wrong_size_or_format() {
    let Some(dir) = workplace() else { return };
    let file = image(&dir, "a.img");
    let options = options(&dir, Access::Exclusive);
    let error = attach(&arg(&file), &claim("Block", "1Gi"), &options).expect_err("small");
    assert_eq!(
        message(&error),
        format!(
            "volume \"data\": {path} has 16777216 bytes, and the claim requests 1Gi (1073741824 \
             bytes); enlarge it (an image: `truncate -s 1073741824 {path}`), or lower \
             spec.resources.requests.storage",
            path = file.display()
        )
    );
    for size in [0, 513] {
        File::create(&file)
            .and_then(|file| file.set_len(size))
            .expect("image");
        let error = refusal(&dir, &file, Access::Exclusive);
        assert!(
            matches!(error, VolumeError::Sectors { size: s, .. } if s == size),
            "{error:?}"
        );
    }
    fs::write(&file, [&b"QFI\xfb\0\0\0\x03"[..], &[0; 504]].concat()).expect("image");
    let error = refusal(&dir, &file, Access::Exclusive);
    let converts = format!(
        "`qemu-img convert -O raw {} DISK.raw` converts it",
        file.display()
    );
    assert!(message(&error).contains("is a qcow2 image"), "{error}");
    assert!(message(&error).ends_with(&converts), "{error}");
    let volume = dir.path().join("volume");
    fs::create_dir(&volume).expect("directory");
    fs::rename(&file, volume.join("disk.img")).expect("rename");
    let error = attach(&arg(&volume), &claim("Filesystem", "1Mi"), &options).expect_err("qcow2");
    assert!(
        matches!(
            error,
            VolumeError::Format {
                format: "qcow2",
                ..
            }
        ),
        "{error:?}"
    );
}

fn mount(dir: &TempDir, device: &Path) -> Undo {
    let point = dir.path().join("mounted");
    fs::create_dir(&point).expect("directory");
    run(
        "mkfs.ext4",
        &["-q".as_ref(), "-F".as_ref(), device.as_os_str()],
    );
    run("mount", &[device.as_os_str(), point.as_os_str()]);
    Undo("umount", point)
}

#[test]
fn a_mounted_device() {
    let Some(dir) = workplace() else { return };
    let host = HostDisk::new(&dir);
    let mounted = mount(&dir, &host.0);
    let error = refusal(&dir, &host.0, Access::Exclusive);
    assert_eq!(
        message(&error),
        format!(
            "volume \"data\": {device} is mounted on this machine ({device} at {}); a VM that \
             wrote to it would destroy the file system: unmount it first, or name another device",
            mounted.1.display(),
            device = host.0.display()
        )
    );
    // Not for reading either: it changes under the reader.
    let error = refusal(&dir, &host.0, Access::ReadOnly);
    assert!(matches!(error, VolumeError::Mounted { .. }), "{error:?}");
}

#[test]
fn a_disk_with_a_mounted_partition() {
    let Some(dir) = workplace() else { return };
    let host = HostDisk::new(&dir);
    let partition = host.partition();
    let _mounted = mount(&dir, &partition);
    let error = refusal(&dir, &host.0, Access::Exclusive);
    let VolumeError::Mounted { device, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(Path::new(device), partition);
}

#[test]
fn swap_on_a_device_and_in_a_file() {
    let Some(dir) = workplace() else { return };
    let host = HostDisk::new(&dir);
    let file = dir.path().join("swap.img");
    // A swap file may not have holes.
    fs::write(&file, vec![0; 1 << 20]).expect("file");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
    for path in [&host.0, &file] {
        run("mkswap", &[path.as_os_str()]);
        run("swapon", &[path.as_os_str()]);
        let _swap = Undo("swapoff", path.clone());
        let error = refusal(&dir, path, Access::Exclusive);
        assert!(matches!(error, VolumeError::Swap { .. }), "{error:?}");
    }
}

#[test]
fn a_device_that_another_is_built_on() {
    // Device mapper and RAID are not everywhere; sysfs is a tree of files.
    let dir = tempfile::tempdir().expect("temporary directory");
    fs::create_dir_all(dir.path().join("8:1/holders/dm-0")).expect("directories");
    let devices = ["8:0".to_owned(), "8:1".to_owned()];
    let check = |devices| host::check_not_held("data", Path::new("/dev/sda"), dir.path(), devices);
    check(&devices[..1]).expect("not held");
    let error = check(&devices).expect_err("held");
    assert_eq!(
        message(&error),
        "volume \"data\": /dev/sda is part of dm-0 (/sys/dev/block lists it as holder); name that \
         device, or take this one out of it"
    );
}

#[test]
fn a_device_in_exclusive_use() {
    let Some(dir) = workplace() else { return };
    let host = HostDisk::new(&dir);
    let mut options = OpenOptions::new();
    let vm = options
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(&host.0)
        .expect("open");
    let error = refusal(&dir, &host.0, Access::Exclusive);
    assert!(matches!(error, VolumeError::Busy { .. }), "{error:?}");
    attach_to(&dir, &host.0, Access::Shared).expect("shared on purpose");
    drop(vm);
    attach_to(&dir, &host.0, Access::Exclusive).expect("free again");
}

#[test]
fn an_image_that_is_attached_already() {
    let Some(dir) = workplace() else { return };
    let host = HostDisk::new(&dir);
    let error = refusal(&dir, &dir.path().join("host.img"), Access::Exclusive);
    let VolumeError::ImageAttached { loop_device, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*loop_device, host.0);
}

#[test]
fn an_image_that_another_vm_has() {
    let Some(dir) = workplace() else { return };
    let image = image(&dir, "a.img");
    let first = attach_to(&dir, &image, Access::Exclusive).expect("attached");
    let mut other = options(&dir, Access::Exclusive);
    other.dir = dir.path().join("other-vm");
    let error = attach(&arg(&image), &claim("Block", "1Mi"), &other).expect_err("locked");
    assert!(
        matches!(error, VolumeError::ImageLocked { .. }),
        "{error:?}"
    );
    first.detach().expect("detached");
    attach(&arg(&image), &claim("Block", "1Mi"), &other).expect("free again");
}

#[test]
fn what_is_read_only_and_to_be_written() {
    let Some(dir) = workplace() else { return };
    let host = HostDisk::new(&dir);
    run("blockdev", &["--setro".as_ref(), host.0.as_os_str()]);
    let error = refusal(&dir, &host.0, Access::Exclusive);
    assert!(matches!(error, VolumeError::ReadOnly { .. }), "{error:?}");
    attach_to(&dir, &host.0, Access::ReadOnly).expect("for reading it will do");

    let point = dir.path().join("read-only");
    fs::create_dir(&point).expect("directory");
    run(
        "mount",
        &["-t", "tmpfs", "tmpfs", point.to_str().expect("UTF-8")].map(OsStr::new),
    );
    let _mounted = Undo("umount", point.clone());
    let image = point.join("a.img");
    File::create(&image)
        .and_then(|file| file.set_len(SIZE))
        .expect("image");
    run(
        "mount",
        &["-o".as_ref(), "remount,ro".as_ref(), point.as_os_str()],
    );
    let error = refusal(&dir, &image, Access::Exclusive);
    assert!(matches!(error, VolumeError::ReadOnly { .. }), "{error:?}");
    let directory = |access| {
        attach(
            &arg(&point),
            &claim("Filesystem", "1Mi"),
            &options(&dir, access),
        )
    };
    let error = directory(Access::Exclusive).expect_err("read-only");
    assert!(matches!(error, VolumeError::ReadOnly { .. }), "{error:?}");
    directory(Access::ReadOnly).expect("for reading it will do");
    drop(attach_to(&dir, &image, Access::ReadOnly).expect("for reading it will do"));
}
