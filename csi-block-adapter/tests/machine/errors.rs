//! Each error of the device side, produced by what produces it in life.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
};

use coracle_api::{
    machine::{CloudInitData, Disk, DiskSource},
    report::TerminationReason::{self, *},
    types::{CacheMode, DiskBus, IoMode},
};
use coracle_block::device::{self, DeviceError, NodeKind};
use nix::{sys::stat::Mode, unistd::mkfifo};

use crate::support::*;

fn block_disk(path: &Path) -> Disk {
    disk(DiskSource::Block { path: text(path) })
}

fn refuse(disk: &Disk, reason: TerminationReason) -> DeviceError {
    let error = device::open(disk).expect_err("is refused");
    assert_eq!(error.reason(), reason, "{error}");
    error
}

#[test]
fn nothing_is_there() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let path = dir.path().join("disk.img");
    let error = refuse(&block_disk(&path), DiskNotFound);
    assert!(matches!(error, DeviceError::NoDevice { .. }), "{error:?}");
    let error = refuse(&file_disk(&path), DiskNotFound);
    assert!(matches!(error, DeviceError::NoFile { .. }), "{error:?}");
    let error = device::inspect(&path).expect_err("is refused");
    assert!(matches!(error, DeviceError::NoDevice { .. }), "{error:?}");
    assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 0);
}

#[test]
fn the_directory_of_a_new_image_is_not_there() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let error = refuse(
        &new_file_disk(&dir.path().join("no/disk.img"), MIB),
        DiskNotFound,
    );
    assert!(
        matches!(
            error,
            DeviceError::Io {
                doing: "create",
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_node_without_a_device() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let devices = fs::read_to_string("/proc/devices").expect("reads");
    let (_, block) = devices
        .split_once("Block devices:")
        .expect("has block devices");
    let used = |major: &u64| {
        block
            .lines()
            .any(|line| line.split_whitespace().next() == Some(&major.to_string()))
    };
    // Majors for local and experimental use.
    let unused = (240..255).find(|major| !used(major)).expect("one is free");
    let Some(path) = node(dir.path(), (unused, 7), 0o600) else {
        return;
    };
    let error = refuse(&block_disk(Path::new(&path)), DiskNotFound);
    let DeviceError::Gone { major, minor, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!((major, minor), (unused, 7));
}

#[test]
fn links_are_not_followed() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let target = image(&dir, MIB);
    let link = dir.path().join("link");
    symlink(&target, &link).expect("links");
    for disk in [
        block_disk(&link),
        file_disk(&link),
        new_file_disk(&link, MIB),
    ] {
        let error = refuse(&disk, DiskInvalid);
        assert!(matches!(error, DeviceError::Symlink { .. }), "{error:?}");
    }
    let error = device::inspect(&link).expect_err("is refused");
    assert!(matches!(error, DeviceError::Symlink { .. }), "{error:?}");
    let dangling = dir.path().join("dangling");
    symlink(dir.path().join("elsewhere"), &dangling).expect("links");
    refuse(&new_file_disk(&dangling, MIB), DiskInvalid);
    assert!(!dir.path().join("elsewhere").exists());
}

#[test]
fn other_kinds_of_nodes() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let file = image(&dir, MIB);
    let fifo = dir.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).expect("makes a pipe");
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("binds");
    for (disk, kind) in [
        (block_disk(dir.path()), NodeKind::Directory),
        (file_disk(dir.path()), NodeKind::Directory),
        (block_disk(Path::new("/dev/null")), NodeKind::Character),
        (file_disk(Path::new("/dev/null")), NodeKind::Character),
        (block_disk(&fifo), NodeKind::Fifo),
        (new_file_disk(&fifo, MIB), NodeKind::Fifo),
        (block_disk(&socket), NodeKind::Socket),
        (block_disk(&file), NodeKind::Regular),
    ] {
        let error = refuse(&disk, DiskInvalid);
        let DeviceError::WrongKind { found, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(found, kind);
    }
}

#[test]
fn a_path_that_qemu_cannot_be_told() {
    let error = device::inspect(Path::new(OsStr::from_bytes(b"/dev/\xff"))).expect_err("refused");
    assert!(matches!(error, DeviceError::NotText { .. }), "{error:?}");
    assert_eq!(error.reason(), DiskInvalid);
}

#[test]
fn a_path_that_the_kernel_refuses() {
    let error = refuse(&block_disk(Path::new("/dev/\0")), HostFailed);
    assert!(
        matches!(
            error,
            DeviceError::Io {
                doing: "look at",
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn sizes_that_no_disk_has() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let path = image(&dir, 0);
    let error = refuse(&file_disk(&path), DiskInvalid);
    assert!(matches!(error, DeviceError::Empty { .. }), "{error:?}");
    fs::write(&path, [7; 513]).expect("writes");
    let error = refuse(&new_file_disk(&path, MIB), DiskInvalid);
    assert!(
        matches!(error, DeviceError::Size { bytes: 513, .. }),
        "{error:?}"
    );
    assert_eq!(fs::read(&path).expect("reads"), [7; 513]);

    let new = dir.path().join("new.img");
    let error = refuse(&new_file_disk(&new, 1000), DiskInvalid);
    assert!(
        matches!(error, DeviceError::Size { bytes: 1000, .. }),
        "{error:?}"
    );
    let error = refuse(&new_file_disk(&new, 0), DiskInvalid);
    assert!(matches!(error, DeviceError::Empty { .. }), "{error:?}");
    assert!(!new.exists());
}

#[test]
fn a_device_without_bytes() {
    let Some(device) = Loop::new(0, &[]) else {
        return;
    };
    let error = refuse(&device.disk(), DiskInvalid);
    assert!(matches!(error, DeviceError::Empty { .. }), "{error:?}");
}

#[test]
fn a_read_only_device_that_is_wanted_writable() {
    let Some(device) = Loop::new(MIB, &["--read-only"]) else {
        return;
    };
    let error = refuse(&device.disk(), DiskReadOnly);
    assert!(matches!(error, DeviceError::ReadOnly { .. }), "{error:?}");
    let open = device::open(&Disk {
        read_only: true,
        ..device.disk()
    })
    .expect("opens");
    assert!(open.facts.read_only);
}

#[test]
fn a_read_only_file_system_that_is_wanted_writable() {
    if !is_root() || !has("unshare") {
        return;
    }
    let dir = public_dir();
    image(&dir, MIB);
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && \
                  exec \"$2\" open --json \"$1/disk.img\"";
    let output = in_mount_namespace(script, &[&text(dir.path()), &binary(&dir)]);
    let (reason, message) = failure(&output);
    assert_eq!(reason, DiskReadOnly, "{message}");
}

#[test]
fn a_file_system_without_direct_io() {
    if !is_root() || !has("unshare") {
        return;
    }
    let dir = public_dir();
    let binary = binary(&dir);
    let at = dir.path().join("ramfs");
    fs::create_dir(&at).expect("makes a directory");
    let script = "mount -t ramfs none \"$1\" && truncate -s 1M \"$1/disk.img\" && \
                  exec \"$2\" open --json \"$1/disk.img\"";
    let output = in_mount_namespace(script, &[&text(&at), &binary]);
    let (reason, message) = failure(&output);
    assert_eq!(reason, InvalidMachine, "{message}");
    assert!(
        message.ends_with("set cache: Writeback on the disk"),
        "{message}"
    );
}

#[test]
fn a_mounted_device() {
    if !is_root() || !has("unshare") || !has("mkfs.ext4") {
        return;
    }
    let Some(device) = Loop::new(8 * MIB, &[]) else {
        return;
    };
    let dir = public_dir();
    let binary = binary(&dir);
    let at = dir.path().join("a mount");
    fs::create_dir(&at).expect("makes a directory");
    let script = "mkfs.ext4 -q \"$1\" && mount \"$1\" \"$2\" && exec \"$3\" \"$4\" --json \"$1\"";
    let arguments = [device.path.as_str(), &text(&at), &binary, "open"];
    let (reason, message) = failure(&in_mount_namespace(script, &arguments));
    assert_eq!(reason, DiskBusy);
    assert_eq!(
        message,
        format!("{} is in use: mounted at {}", device.path, text(&at))
    );

    let [device, at, binary, _] = arguments;
    let seen = success(&in_mount_namespace(
        script,
        &[device, at, binary, "inspect"],
    ));
    assert_eq!(
        seen["holders"],
        serde_json::json!([{"kind": "mount", "at": at}])
    );
}

#[test]
fn a_cloud_init_disk_has_no_device() {
    let source = DiskSource::CloudInit {
        user_data: CloudInitData::Inline("#cloud-config\n".into()),
        network_data: None,
    };
    let error = refuse(&disk(source), HostFailed);
    assert!(matches!(error, DeviceError::CloudInit { .. }), "{error:?}");
}

#[test]
fn settings_that_do_not_go_together_are_refused_before_anything_is_opened() {
    let absent = Path::new("/nonexistent/coracle");
    let native = Disk {
        io: IoMode::Native,
        cache: CacheMode::Writeback,
        ..file_disk(absent)
    };
    let sata = Disk {
        bus: DiskBus::Sata,
        read_only: true,
        ..file_disk(absent)
    };
    for disk in [native, sata] {
        let error = refuse(&disk, InvalidMachine);
        assert!(matches!(error, DeviceError::Impossible { .. }), "{error:?}");
    }
}
