//! What the container is given, and that nothing of it stays.

use super::*;

fn loop_path(attached: &Attached) -> PathBuf {
    attached.record().loop_device.expect("a loop device").path
}

fn backing_file(loop_device: &Path) -> Option<String> {
    let name = loop_device.file_name()?;
    let path = Path::new("/sys/block").join(name).join("loop/backing_file");
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Not attached, or by now attached to something that is not ours.
fn assert_free(loop_device: &Path, image: &Path) {
    let image = image.display().to_string();
    assert_ne!(
        backing_file(loop_device),
        Some(image),
        "{}",
        loop_device.display()
    );
}

#[test]
fn an_image_becomes_a_block_device_of_the_disk_group() {
    let Some(dir) = workplace() else { return };
    let image = image(&dir, "data.img");
    let attached = attach_to(&dir, &image, Access::Exclusive).expect("attached");
    let AttachedVolume::Block(node) = attached.volume() else {
        panic!("{attached:?}")
    };
    assert_eq!(*node, dir.path().join("nodes/data"));
    let metadata = fs::metadata(node).expect("node");
    assert!(metadata.file_type().is_block_device());
    assert_eq!(
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
        (0, 6, 0o660)
    );
    let loop_device = loop_path(&attached);
    let host = fs::metadata(&loop_device).expect("loop device");
    assert_eq!(host.rdev(), metadata.rdev());

    let status = attached.claim().status.as_ref().expect("status");
    assert_eq!(status.phase.as_deref(), Some("Bound"));
    assert_eq!(
        status.capacity.as_ref().expect("capacity")["storage"].0,
        SIZE.to_string()
    );
    assert_eq!(
        status.access_modes.as_deref(),
        Some(&["ReadWriteOnce".to_owned()][..])
    );

    // Bytes written through the node are the image's.
    let mut device = OpenOptions::new().write(true).open(node).expect("open");
    device
        .write_all(b"written by the guest")
        .and_then(|()| device.sync_all())
        .expect("write");
    drop(device);
    assert!(
        fs::read(&image)
            .expect("image")
            .starts_with(b"written by the guest")
    );

    let node = node.clone();
    attached.detach().expect("detached");
    assert!(!node.exists());
    assert_free(&loop_device, &image);
}

#[test]
fn sectors_are_512_bytes_whatever_is_below() {
    let Some(dir) = workplace() else { return };
    let attached = attach_to(&dir, &image(&dir, "a.img"), Access::Exclusive).expect("attached");
    let name = loop_path(&attached);
    let queue = Path::new("/sys/block")
        .join(name.file_name().expect("name"))
        .join("queue");
    let sector = fs::read_to_string(queue.join("logical_block_size")).expect("sysfs");
    assert_eq!(sector.trim(), "512");
}

#[test]
fn a_block_device_is_given_as_it_is_and_the_hosts_node_stays() {
    let Some(dir) = workplace() else { return };
    let host = HostDisk::new(&dir);
    let before = fs::metadata(&host.0).expect("host's node");
    let link = dir.path().join("by-id");
    symlink(&host.0, &link).expect("link");
    let attached = attach_to(&dir, &link, Access::Exclusive).expect("attached");
    let node = attached.volume().path().to_owned();
    let made = fs::metadata(&node).expect("node");
    assert_eq!(made.rdev(), before.rdev());
    assert_eq!(
        (made.uid(), made.gid(), made.mode() & 0o7777),
        (0, 6, 0o660)
    );
    let after = fs::metadata(&host.0).expect("host's node");
    assert_eq!(
        (before.uid(), before.gid(), before.mode(), before.ino()),
        (after.uid(), after.gid(), after.mode(), after.ino())
    );
    assert_eq!(attached.record().loop_device, None);
    drop(attached);
    assert!(!node.exists());
    assert!(host.0.exists());
}

#[test]
fn a_left_over_node_is_replaced() {
    let Some(dir) = workplace() else { return };
    fs::create_dir(dir.path().join("nodes")).expect("directory");
    fs::write(dir.path().join("nodes/data"), "left over").expect("file");
    let attached = attach_to(&dir, &image(&dir, "a.img"), Access::Exclusive).expect("attached");
    let metadata = fs::metadata(attached.volume().path()).expect("node");
    assert!(metadata.file_type().is_block_device());
}

#[test]
fn dropping_detaches() {
    let Some(dir) = workplace() else { return };
    let image = image(&dir, "a.img");
    let attached = attach_to(&dir, &image, Access::Exclusive).expect("attached");
    let loop_device = loop_path(&attached);
    drop(attached);
    assert_free(&loop_device, &image);
    assert!(!dir.path().join("nodes/data").exists());
}

#[test]
fn a_released_image_lives_as_long_as_the_vm_has_it_open() {
    let Some(dir) = workplace() else { return };
    let image = image(&dir, "a.img");
    let attached = attach_to(&dir, &image, Access::Exclusive).expect("attached");
    let qemu = File::open(attached.volume().path()).expect("open");
    let record = attached.release();
    let loop_device = record.loop_device.clone().expect("a loop device").path;
    assert_eq!(
        backing_file(&loop_device),
        Some(image.display().to_string())
    );
    // The lock is the loop device's now: nobody else gets the image.
    let second = attach_to(&dir, &image, Access::Exclusive).expect_err("in use");
    assert!(
        matches!(second, VolumeError::ImageLocked { .. }),
        "{second:?}"
    );
    drop(qemu);
    assert_free(&loop_device, &image);

    let json = serde_json::to_string(&record).expect("JSON");
    assert_eq!(
        serde_json::from_str::<VolumeRecord>(&json).expect("record"),
        record
    );
    record.detach().expect("detached");
    record.detach().expect("twice is harmless");
    assert!(!dir.path().join("nodes/data").exists());
}

#[test]
fn a_record_does_not_free_what_another_image_has_now() {
    let Some(dir) = workplace() else { return };
    let first = attach_to(&dir, &image(&dir, "a.img"), Access::Exclusive).expect("attached");
    let mut record = first.record();
    first.detach().expect("detached");
    let other = HostDisk::new(&dir);
    record
        .loop_device
        .as_mut()
        .expect("a loop device")
        .path
        .clone_from(&other.0);
    record.detach().expect("nothing to do");
    assert_eq!(
        backing_file(&other.0),
        Some(dir.path().join("host.img").display().to_string())
    );
}

#[test]
fn a_device_that_stays_open_is_named() {
    let Some(dir) = workplace() else { return };
    let attached = attach_to(&dir, &image(&dir, "a.img"), Access::Exclusive).expect("attached");
    let held = File::open(attached.volume().path()).expect("open");
    let error = attached.detach().expect_err("still open");
    assert!(matches!(error, VolumeError::StillOpen { .. }), "{error:?}");
    drop(held);
}

#[test]
fn images_that_are_only_read_can_be_shared() {
    let Some(dir) = workplace() else { return };
    let image = image(&dir, "a.img");
    let one = attach_to(&dir, &image, Access::ReadOnly).expect("attached");
    let mut second = options(&dir, Access::ReadOnly);
    second.dir = dir.path().join("other-vm");
    let other = attach(&arg(&image), &claim("Block", "1Mi"), &second).expect("attached");
    assert_ne!(loop_path(&one), loop_path(&other));
    let device = OpenOptions::new().write(true).open(one.volume().path());
    let error = device
        .and_then(|mut device| device.write_all(b"x"))
        .expect_err("read-only");
    assert!(
        matches!(
            error.raw_os_error(),
            Some(libc::EACCES | libc::EPERM | libc::EROFS)
        ),
        "{error:?}"
    );
    let writer = attach_to(&dir, &image, Access::Exclusive).expect_err("locked");
    assert!(
        matches!(writer, VolumeError::ImageLocked { .. }),
        "{writer:?}"
    );
}

#[test]
fn a_directory_is_given_as_it_is() {
    let Some(dir) = workplace() else { return };
    let path = dir.path().join("volume");
    fs::create_dir(&path).expect("directory");
    let options = options(&dir, Access::Exclusive);
    let attached = attach(&arg(&path), &claim("Filesystem", "5Gi"), &options).expect("attached");
    let path = fs::canonicalize(&path).expect("path");
    assert_eq!(*attached.volume(), AttachedVolume::Directory(path.clone()));
    let capacity = attached
        .claim()
        .status
        .as_ref()
        .and_then(|status| status.capacity.clone());
    assert_eq!(capacity.expect("capacity")["storage"].0, "5Gi");
    attached.detach().expect("detached");
    assert!(path.exists());
}
