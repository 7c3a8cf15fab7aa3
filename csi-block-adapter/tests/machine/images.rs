//! Disks in container images, as a mounted one is: a directory that nobody
//! writes to.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    thread,
};

use coracle_api::{
    machine::{Disk, DiskSource},
    report::TerminationReason,
};
use coracle_block::{
    device::{self, DeviceError},
    qemu::check,
};
use nix::unistd::{Uid, setfsuid};
use tempfile::TempDir;

use crate::{
    qemu::{BUSES, CACHES, Qemu, accepts, has_qemu, options_for},
    support::*,
};

/// A container image's files, and a place for an overlay.
struct Image {
    dir: TempDir,
}

impl Image {
    /// With these files; a name that ends in `/` is a directory.
    fn new(files: &[(&str, &[u8])]) -> Self {
        let dir = public_dir();
        let image = Self { dir };
        fs::create_dir(image.path("overlay")).expect("makes a directory");
        for (name, bytes) in files {
            image.put(name, bytes);
        }
        image
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.path("image").join(name);
        fs::create_dir_all(path.parent().expect("has one")).expect("makes a directory");
        fs::write(path, bytes).expect("writes");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn source(&self, path: Option<&str>, size_bytes: Option<u64>) -> DiskSource {
        DiskSource::Image {
            root: text(&self.path("image")),
            path: path.map(str::to_owned),
            overlay: Some(text(&self.path("overlay"))),
            size_bytes,
        }
    }

    /// A disk with an overlay.
    fn disk(&self) -> Disk {
        disk(self.source(None, None))
    }

    fn overlays(&self) -> Vec<PathBuf> {
        let entries = self.path("overlay").read_dir().expect("is a directory");
        entries.map(|entry| entry.expect("reads").path()).collect()
    }
}

/// A disk of 1 MiB, a letter in each sector.
fn pattern() -> Vec<u8> {
    (0..MIB)
        .map(|at| b'a' + u8::try_from(at / 512 % 26).expect("is small"))
        .collect()
}

/// The same as qcow2, and packed.
fn qcow2(dir: &Path, options: &[&str]) -> Vec<u8> {
    let (raw, image) = (dir.join("raw"), dir.join("qcow2"));
    fs::write(&raw, pattern()).expect("writes");
    let arguments = ["convert", "-f", "raw", "-O", "qcow2"];
    let files = [text(&raw), text(&image)];
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let made = run("qemu-img", &[&arguments, options, &files].concat());
    assert!(made.status.success(), "{made:?}");
    fs::read(image).expect("reads")
}

/// Both formats, where qemu-img is there to make the second.
fn formats() -> Vec<Image> {
    let raw = Image::new(&[("disk/root.img", &pattern())]);
    if !has("qemu-img") {
        return vec![raw];
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let packed = qcow2(dir.path(), &["-c"]);
    vec![raw, Image::new(&[("disk/root.qcow2", &packed)])]
}

#[test]
fn qemu_takes_every_bus_and_cache_on_an_image() {
    if !has_qemu() {
        return;
    }
    for image in formats() {
        for (bus, read_only) in BUSES.map(|bus| [(bus, false), (bus, true)]).concat() {
            for cache in CACHES {
                let disk = Disk {
                    bus,
                    cache,
                    read_only,
                    ..image.disk()
                };
                if check(&disk).is_ok() {
                    accepts(&disk);
                }
            }
        }
    }
}

#[test]
fn what_is_written_stays_in_the_overlay_until_the_image_is_another() {
    if !has_qemu() {
        return;
    }
    for image in formats() {
        let name = image.path("image/disk").read_dir().expect("reads").next();
        let file = name.expect("is there").expect("reads").path();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).expect("closes it");
        let before = fs::read(&file).expect("reads");
        let (guard, options) = options_for(&image.disk());
        assert_eq!(guard.facts.size_bytes, MIB);
        let mut qemu = Qemu::start(&options).expect("starts");
        qemu.io("read -q -P 97 0 512");
        qemu.io("read -q -P 98 512 512");
        qemu.io("write -q -P 85 512 64k");
        qemu.io("discard -q 128k 64k");
        qemu.io("flush");
        assert_eq!(
            guard.size_bytes().expect("is known"),
            MIB,
            "it grows, the disk does not"
        );
        assert_eq!(qemu.end(), "");
        drop(guard);
        children_have_started();

        // A container that starts again in place goes on with it.
        let (guard, options) = options_for(&image.disk());
        let mut qemu = Qemu::start(&options).expect("starts again");
        qemu.io("read -q -P 97 0 512");
        qemu.io("read -q -P 85 512 64k");
        assert_eq!(qemu.end(), "");
        assert!(!guard.facts.image.as_ref().expect("is one").replaced);
        drop(guard);
        children_have_started();
        assert!(
            fs::read(&file).expect("reads") == before,
            "the image was written to"
        );
        if has("qemu-img") {
            let overlay = text(&image.overlays()[0]);
            let checked = run("qemu-img", &["check", "-f", "qcow2", &overlay]);
            assert!(checked.status.success(), "{checked:?}");
        }

        // The same bytes in another file: the node has unpacked another image.
        let copy = image.path("copy");
        fs::copy(&file, &copy).expect("copies");
        fs::rename(&copy, &file).expect("replaces it");
        let (guard, options) = options_for(&image.disk());
        assert!(guard.facts.image.as_ref().expect("is one").replaced);
        assert_eq!(image.overlays().len(), 1);
        let mut qemu = Qemu::start(&options).expect("starts with the other");
        qemu.io("read -q -P 98 512 512");
        assert_eq!(qemu.end(), "");
    }
}

#[test]
fn a_disk_larger_than_its_image_ends_in_zeroes() {
    if !has_qemu() {
        return;
    }
    for image in formats() {
        let disk = disk(image.source(None, Some(64 * MIB)));
        let (_guard, options) = options_for(&disk);
        let mut qemu = Qemu::start(&options).expect("starts");
        qemu.io("read -q -P 0 1M 63M");
        qemu.io("write -q -P 85 63M 1M");
        qemu.io("read -q -P 97 0 512");
        assert_eq!(qemu.end(), "");
    }
}

#[test]
fn two_vms_read_one_image_and_one_has_an_overlay() {
    let image = Image::new(&[("disk/root.img", &pattern())]);
    let reads = Disk {
        read_only: true,
        ..image.disk()
    };
    let _first = device::open(&reads).expect("opens");
    let _second = device::open(&reads).expect("opens beside it");
    let writes = device::open(&image.disk()).expect("opens over it");
    let error = device::open(&image.disk()).expect_err("the overlay is one VM's");
    assert_eq!(error.reason(), TerminationReason::DiskBusy);
    drop(writes);
    children_have_started();
    device::open(&image.disk()).expect("opens once it is free");
}

fn refused(disk: &Disk) -> (TerminationReason, String) {
    let error = device::open(disk).expect_err("is refused");
    let said = match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    (error.reason(), said)
}

/// Two files in `/disk`, one of them no disk, and links.
fn wrong_image() -> Image {
    let image = Image::new(&[
        ("disk/a.img", &pattern()),
        ("disk/b.img", b"x"),
        ("etc/x", b""),
    ]);
    symlink("/etc/passwd", image.path("image/link")).expect("links");
    symlink("/etc", image.path("image/away")).expect("links");
    image
}

#[track_caller]
fn refused_with(disk: &Disk, reason: TerminationReason, why: &str) {
    let (found, said) = refused(disk);
    assert_eq!(found, reason, "{said}");
    assert!(said.contains(why), "{said}");
}

#[test]
fn a_file_that_is_not_meant_is_told_of() {
    use TerminationReason::{DiskInvalid, DiskNotFound};
    let image = wrong_image();
    refused_with(&image.disk(), DiskInvalid, "in /disk (a.img, b.img)");
    for files in ["etc/disk.img", "disk/sub/x"] {
        let image = Image::new(&[(files, &pattern())]);
        let why = "no file in /disk: say with image.path";
        refused_with(&image.disk(), DiskNotFound, why);
    }
    for (path, reason, why) in [
        ("disk/c.img", DiskNotFound, "no file disk/c.img"),
        ("disk/a.img/x", DiskNotFound, "no file disk/a.img/x"),
        ("../image/disk/a.img", DiskNotFound, "no file ../image"),
        ("disk", DiskInvalid, "is a directory"),
        ("link", DiskInvalid, "is a symbolic link"),
        ("away/passwd", DiskInvalid, "is a symbolic link"),
    ] {
        refused_with(&disk(image.source(Some(path), None)), reason, why);
    }
    assert!(image.overlays().is_empty(), "nothing was made");
    device::open(&disk(image.source(Some("disk/a.img"), None))).expect("the right one opens");
}

#[test]
fn an_image_that_does_not_fit_is_told_of() {
    use TerminationReason::{DiskInvalid, DiskReadOnly};
    let image = wrong_image();
    let named = |path: &str, size| disk(image.source(Some(path), size));
    let odd = named("disk/b.img", None);
    refused_with(&odd, DiskInvalid, "not a multiple of 512");
    let empty = named("etc/x", None);
    refused_with(&empty, DiskInvalid, "etc/x in the container image is empty");
    let small = named("disk/a.img", Some(MIB - 512));
    let why = "disk/a.img in the container image needs 1048576";
    refused_with(&small, DiskInvalid, why);
    let only_read = disk(DiskSource::Image {
        root: text(&image.path("image")),
        path: Some("disk/a.img".into()),
        overlay: None,
        size_bytes: None,
    });
    refused_with(&only_read, DiskReadOnly, "set readOnly: true on the disk");
    assert!(image.overlays().is_empty(), "nothing was made");
}

#[test]
fn an_image_that_leads_to_another_is_refused_and_never_read() {
    if !has("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let secret = dir.path().join("secret.img");
    fs::write(&secret, pattern()).expect("writes");
    let image = dir.path().join("leads.qcow2");
    let options = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"];
    let files = [text(&secret), text(&image)];
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let made = run("qemu-img", &[&options[..], &files].concat());
    assert!(made.status.success(), "{made:?}");
    let bytes = fs::read(&image).expect("reads");
    for read_only in [false, true] {
        let image = Image::new(&[("disk/root.qcow2", &bytes)]);
        let disk = Disk {
            read_only,
            ..image.disk()
        };
        let (reason, said) = refused(&disk);
        assert_eq!(reason, TerminationReason::DiskInvalid);
        assert!(said.contains("it has a backing file: flatten it"), "{said}");
    }
}

#[test]
fn a_file_that_only_its_owner_may_read_is_told_of() {
    if !is_root() {
        return;
    }
    let image = Image::new(&[("disk/root.img", &pattern())]);
    let file = image.path("image/disk/root.img");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("closes it");
    let disk = image.disk();
    // The identity by which files are opened is each thread's own.
    let as_vm = thread::spawn(move || {
        setfsuid(Uid::from_raw(107));
        device::open(&disk).expect_err("is refused")
    });
    let error = as_vm.join().expect("ends");
    let DeviceError::Image(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.reason(), TerminationReason::DiskPermission);
    let said = error.to_string();
    assert!(
        said.contains("disk/root.img in the container image cannot be read as uid"),
        "{said}"
    );
    assert!(said.contains("root:root 0600"), "{said}");
    assert!(said.contains("chmod a+r"), "{said}");
}
