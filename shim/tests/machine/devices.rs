//! What tests put disks on: loop devices and small file systems. Gone again
//! when dropped.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::geteuid,
};
use tempfile::TempDir;

fn is_root() -> bool {
    let root = geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

fn losetup(arguments: &[&str]) -> Option<String> {
    let output = Command::new("losetup").args(arguments).output();
    let output = output.inspect_err(|error| eprintln!("skipped: losetup: {error}"));
    let output = output.ok()?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        eprintln!("skipped: losetup {arguments:?}: {stderr}");
        return None;
    }
    Some(
        String::from_utf8(output.stdout)
            .expect("is text")
            .trim()
            .to_owned(),
    )
}

/// An image of zeroes in this directory.
pub(crate) fn image(dir: &Path, bytes: u64) -> PathBuf {
    let path = dir.join("data.img");
    File::create(&path)
        .and_then(|file| file.set_len(bytes))
        .expect("makes an image");
    path
}

/// A loop device.
pub(crate) struct Loop {
    path: String,
    image: PathBuf,
}

impl Loop {
    /// A loop device on this image; `None`, and a word of why, where there are
    /// none.
    pub(crate) fn new(image: &Path) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let text = image.to_str().expect("is UTF-8");
        let path = losetup(&["--find", "--show", text])?;
        Some(Self {
            path,
            image: image.to_owned(),
        })
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Attaches the image anew under the same numbers: another use of the
    /// device, as of another volume. False, and a word of why, where somebody
    /// else was faster.
    pub(crate) fn replace(&self) -> bool {
        let image = self.image.to_str().expect("is UTF-8");
        losetup(&["--detach", &self.path])
            .and_then(|_| losetup(&[&self.path, image]))
            .is_some()
    }

    /// Takes the device away as far as the kernel does that while it is in use:
    /// for good, once nothing has it open any more.
    pub(crate) fn detach(&self) {
        losetup(&["--detach", &self.path]).expect("detaches");
    }

    /// Puts this image under the device's numbers. False where they are taken.
    pub(crate) fn reuse(&self, image: &Path) -> bool {
        let output = Command::new("losetup").arg(&self.path).arg(image).output();
        output.expect("losetup runs").status.success()
    }

    /// Has the device refuse writes, or take them again.
    pub(crate) fn set_read_only(&self, read_only: bool) {
        let switch = if read_only { "--setro" } else { "--setrw" };
        let set = Command::new("blockdev")
            .arg(switch)
            .arg(&self.path)
            .status();
        assert!(set.expect("blockdev runs").success());
    }

    /// Gives the device another size, as a storage driver would.
    pub(crate) fn resize(&self, bytes: u64) {
        let image = File::options().write(true).open(&self.image);
        image
            .and_then(|image| image.set_len(bytes))
            .expect("takes another size");
        losetup(&["--set-capacity", &self.path]).expect("takes another size");
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        losetup(&["--detach", &self.path]);
    }
}

/// A file system in memory.
pub(crate) struct Tmpfs {
    dir: TempDir,
}

impl Tmpfs {
    /// One of this size; `None`, and a word of why, where there are none.
    pub(crate) fn new(bytes: u64) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let dir = tempfile::tempdir().expect("makes a directory");
        let options = format!("size={bytes}");
        let mounted = mount(
            Some("coracle"),
            dir.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        );
        if let Err(error) = mounted {
            eprintln!("skipped: a tmpfs cannot be mounted: {error}");
            return None;
        }
        Some(Self { dir })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes it larger.
    pub(crate) fn grow(&self, bytes: u64) {
        let options = format!("size={bytes}");
        mount(
            None::<&str>,
            self.dir.path(),
            None::<&str>,
            MsFlags::MS_REMOUNT,
            Some(options.as_str()),
        )
        .expect("grows");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.dir.path(), MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {error}", self.dir.path().display());
        }
    }
}
