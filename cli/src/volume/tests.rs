//! What plays a claim and what does not, on real loop devices.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use nix::libc;
use serde_json::json;
use tempfile::TempDir;

use super::*;

mod given;
mod refused;
mod set;

/// A directory of the test's own, or nothing where loop devices cannot be made.
pub(crate) fn workplace() -> Option<TempDir> {
    let root = nix::unistd::geteuid().is_root();
    if !root || !Path::new("/dev/loop-control").exists() {
        eprintln!("skipped: loop devices need root and /dev/loop-control");
        return None;
    }
    Some(tempfile::tempdir().expect("temporary directory"))
}

const SIZE: u64 = 16 << 20;

fn image(dir: &TempDir, name: &str) -> PathBuf {
    let path = dir.path().join(name);
    File::create(&path)
        .and_then(|file| file.set_len(SIZE))
        .expect("image");
    path
}

/// A block device of the host's, which the code under test did not make.
struct HostDisk(PathBuf);

impl HostDisk {
    fn new(dir: &TempDir) -> Self {
        let image = image(dir, "host.img");
        let args = [
            OsStr::new("-P"),
            "-f".as_ref(),
            "--show".as_ref(),
            image.as_os_str(),
        ];
        let output = Command::new("losetup")
            .args(args)
            .output()
            .expect("losetup");
        assert!(output.status.success(), "{output:?}");
        Self(
            String::from_utf8(output.stdout)
                .expect("UTF-8")
                .trim()
                .into(),
        )
    }

    /// Makes a partition, as this kernel may not do by itself.
    fn partition(&self) -> PathBuf {
        run(
            "addpart",
            &[
                self.0.as_os_str(),
                "1".as_ref(),
                "2048".as_ref(),
                "24576".as_ref(),
            ],
        );
        PathBuf::from(format!("{}p1", self.0.display()))
    }
}

impl Drop for HostDisk {
    fn drop(&mut self) {
        // Its partition, if there is one, goes first.
        let _ = Command::new("delpart").arg(&self.0).arg("1").output();
        // The flag outlives what is attached.
        run("blockdev", &["--setrw".as_ref(), self.0.as_os_str()]);
        run("losetup", &["-d".as_ref(), self.0.as_os_str()]);
    }
}

fn run(program: &str, args: &[&OsStr]) {
    let output = Command::new(program).args(args).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// Undoes something of the host's when the test ends, also when it fails.
struct Undo(&'static str, PathBuf);

impl Drop for Undo {
    fn drop(&mut self) {
        run(self.0, &[self.1.as_os_str()]);
    }
}

fn claim(mode: &str, request: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {
            "volumeMode": mode,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": request}},
        },
    }))
    .expect("claim")
}

fn arg(path: &Path) -> VolumeArg {
    VolumeArg {
        claim: "data".into(),
        path: path.into(),
    }
}

fn options(dir: &TempDir, access: Access) -> AttachOptions {
    AttachOptions {
        dir: dir.path().join("nodes"),
        access,
    }
}

fn attach_to(dir: &TempDir, path: &Path, access: Access) -> Result<Attached, VolumeError> {
    attach(&arg(path), &claim("Block", "1Mi"), &options(dir, access))
}

fn message(error: &dyn Error) -> String {
    error.to_string()
}

#[test]
fn arguments_are_claim_and_path() {
    let parsed: VolumeArg = "web-root=/dev/vg0/a=b".parse().expect("argument");
    assert_eq!(
        parsed,
        VolumeArg {
            claim: "web-root".into(),
            path: "/dev/vg0/a=b".into()
        }
    );
    for (text, expected) in [
        (
            "web",
            "\"web\" is not CLAIM=PATH; write, say, web-root=/dev/vg0/web",
        ),
        (
            "web=",
            "no path after \"web\"=; name a block device, an image file or a directory",
        ),
        (
            "../x=/dev/sda",
            "\"../x\" cannot be the name of a claim: lower-case letters, digits, '-' and '.' \
             only, beginning and ending with a letter or digit",
        ),
    ] {
        let error = text.parse::<VolumeArg>().expect_err(text);
        assert_eq!(error.to_string(), expected);
    }
}
