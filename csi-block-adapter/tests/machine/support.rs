//! Loop devices, disks, and the binary run as somebody else.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Mutex,
};

use coracle_api::{
    machine::{Disk, DiskSource},
    report::{TerminationMessage, TerminationReason},
    types::{CacheMode, DetectZeroes, DiscardMode, DiskBus, DiskType, ErrorPolicy, IoMode},
};
use nix::{
    fcntl::AT_FDCWD,
    sys::{
        stat::{FchmodatFlags, Mode, SFlag, fchmodat, major, makedev, minor, mknod, stat},
        statvfs::{FsFlags, statvfs},
    },
    unistd::geteuid,
};
use tempfile::TempDir;

/// A child that another test starts has all our descriptors between fork and
/// exec, and so holds a device that was just let go. Children are therefore
/// started under this lock.
static FORKS: Mutex<()> = Mutex::new(());

/// Starts a process.
pub(crate) fn spawn(command: &mut Command) -> Child {
    let _lock = FORKS.lock().expect("starting does not panic");
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Returns once no child has descriptors of ours: to be called after a disk
/// was let go and before it is to be free.
pub(crate) fn children_have_started() {
    drop(FORKS.lock().expect("starting does not panic"));
}

/// Runs a process to its end.
pub(crate) fn finish(command: &mut Command) -> Output {
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    spawn(command)
        .wait_with_output()
        .expect("waits for its child")
}

pub(crate) const MIB: u64 = 1 << 20;

/// Says that a test cannot run here.
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// Whether this is root; says so where it is not.
pub(crate) fn is_root() -> bool {
    let root = geteuid().is_root();
    if !root {
        skipped("needs root");
    }
    root
}

/// Whether a program is there; says so where it is not.
pub(crate) fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|path| path.join(program).exists());
    if !found {
        skipped(&format!("{program} is not installed"));
    }
    found
}

/// A directory that every user may enter.
pub(crate) fn public_dir() -> TempDir {
    let dir = tempfile::tempdir().expect("makes a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("opens it");
    dir
}

/// A loop device on a sparse file of its own; detached in the end.
pub(crate) struct Loop {
    pub(crate) path: String,
    _dir: TempDir,
}

impl Loop {
    /// `None`, and a word of why, where loop devices cannot be made.
    pub(crate) fn new(bytes: u64, options: &[&str]) -> Option<Self> {
        if !is_root() || !has("losetup") {
            return None;
        }
        let dir = tempfile::tempdir().expect("makes a directory");
        let file = dir.path().join("loop.img");
        File::create(&file)
            .and_then(|file| file.set_len(bytes))
            .expect("makes a sparse file");
        let output = finish(
            Command::new("losetup")
                .args(["--find", "--show"])
                .args(options)
                .arg(&file),
        );
        if !output.status.success() {
            skipped(&format!(
                "no loop device: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
            return None;
        }
        let path = String::from_utf8(output.stdout)
            .expect("is a path")
            .trim()
            .to_owned();
        if !options.contains(&"--read-only") && has("blockdev") {
            // Whoever had the node before may have left it read-only.
            run("blockdev", &["--setrw", &path]);
        }
        Some(Self { path, _dir: dir })
    }

    pub(crate) fn disk(&self) -> Disk {
        disk(DiskSource::Block {
            path: self.path.clone(),
        })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if !run("losetup", &["--detach", &self.path]).status.success() {
            eprintln!("{} was not detached", self.path);
        }
    }
}

/// A writable virtio disk.
pub(crate) fn disk(source: DiskSource) -> Disk {
    Disk {
        name: "root".into(),
        source,
        bus: DiskBus::Virtio,
        disk_type: DiskType::Disk,
        cache: CacheMode::None,
        io: IoMode::Auto,
        discard: DiscardMode::Unmap,
        detect_zeroes: DetectZeroes::Ignore,
        error_policy: ErrorPolicy::Stop,
        read_only: false,
        shareable: false,
        serial: "root".into(),
        boot_index: None,
        iothread: false,
        queues: None,
        block_size: None,
        throttle: None,
    }
}

/// A disk on an image that is to be there.
pub(crate) fn file_disk(path: &Path) -> Disk {
    disk(DiskSource::File {
        path: text(path),
        create_bytes: None,
    })
}

/// A disk on an image that may be created.
pub(crate) fn new_file_disk(path: &Path, bytes: u64) -> Disk {
    disk(DiskSource::File {
        path: text(path),
        create_bytes: Some(bytes),
    })
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("is UTF-8").to_owned()
}

/// A sparse file in `dir`.
pub(crate) fn image(dir: &TempDir, bytes: u64) -> PathBuf {
    let path = dir.path().join("disk.img");
    File::create(&path)
        .and_then(|file| file.set_len(bytes))
        .expect("makes a sparse file");
    path
}

/// The binary, where every user can run it.
pub(crate) fn binary(dir: &TempDir) -> String {
    let path = dir.path().join("coracle-block");
    fs::copy(env!("CARGO_BIN_EXE_coracle-block"), &path).expect("copies the binary");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("opens it");
    text(&path)
}

pub(crate) fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> Output {
    finish(Command::new(program).args(arguments))
}

/// Runs a script with mounts of its own, which end with it.
pub(crate) fn in_mount_namespace(script: &str, arguments: &[&str]) -> Output {
    finish(
        Command::new("unshare")
            .env("LC_ALL", "C")
            .args(["--mount", "sh", "-ec", script, "sh"])
            .args(arguments),
    )
}

/// The failure in the JSON that the binary printed, after a look at the exit
/// code.
pub(crate) fn failure(output: &Output) -> (TerminationReason, String) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let message: TerminationMessage =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(
        output.status.code(),
        Some(message.reason.exit_code().into()),
        "{output:?}"
    );
    (message.reason, message.message)
}

/// Asserts that the binary succeeded.
pub(crate) fn success(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("is JSON")
}

/// Major and minor number of a device node.
pub(crate) fn number(path: &str) -> (u64, u64) {
    let rdev = stat(path).expect("is there").st_rdev;
    (major(rdev), minor(rdev))
}

/// Makes a second node for a device; `None` where nodes do not work.
pub(crate) fn node(dir: &Path, (major, minor): (u64, u64), mode: u32) -> Option<String> {
    let path = dir.join("node");
    let nodev = FsFlags::ST_NODEV;
    if statvfs(dir)
        .expect("has a file system")
        .flags()
        .contains(nodev)
    {
        skipped("the directory for temporary files is mounted nodev");
        return None;
    }
    let device = makedev(major, minor);
    mknod(
        &path,
        SFlag::S_IFBLK,
        Mode::from_bits_truncate(mode),
        device,
    )
    .expect("makes a node");
    // mknod minds the umask.
    fchmodat(
        AT_FDCWD,
        &path,
        Mode::from_bits_truncate(mode),
        FchmodatFlags::FollowSymlink,
    )
    .expect("sets the mode");
    Some(text(&path))
}
