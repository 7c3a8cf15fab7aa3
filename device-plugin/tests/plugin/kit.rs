//! A node of the tests: a kubelet's directory, a device of its own, and the
//! plugin in it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_device_plugin::{Config, Grant, Roots, RunError, run};
use coracle_kubelet::{Device, Faults, Kubelet, Options};
use coracle_kvm_probe::Level;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const RESOURCE: &str = "coracle.dev/kvm";
/// How many devices the plugin has in the tests.
pub(crate) const COUNT: usize = 3;
/// Longer than anything takes; only a failure waits so long.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    dir: TempDir,
    kvm: u64,
}

impl Node {
    /// A node with a KVM that opens; nothing, with the reason said, where the
    /// machine does not let the test make one.
    pub(crate) fn new() -> Option<Self> {
        let kvm = match fs::metadata("/dev/kvm") {
            Ok(there) => there.rdev(),
            Err(error) => {
                eprintln!("skipped: no /dev/kvm: {error}");
                return None;
            }
        };
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root makes device nodes");
            return None;
        }
        let node = Self {
            dir: tempfile::tempdir().expect("a directory"),
            kvm,
        };
        fs::create_dir(node.kubelet_dir()).expect("creates");
        fs::create_dir(node.device().parent().expect("in a directory")).expect("creates");
        node.plug_in();
        if let Err(error) = OpenOptions::new()
            .read(true)
            .write(true)
            .open(node.device())
        {
            eprintln!("skipped: a copy of /dev/kvm cannot be opened: {error}");
            return None;
        }
        Some(node)
    }

    pub(crate) fn kubelet_dir(&self) -> PathBuf {
        self.dir.path().join("device-plugins")
    }

    pub(crate) fn plugin_socket(&self) -> PathBuf {
        self.kubelet_dir().join("coracle-kvm.sock")
    }

    /// The host's device.
    pub(crate) fn device(&self) -> PathBuf {
        self.dir.path().join("dev/kvm")
    }

    pub(crate) fn node_dir(&self) -> PathBuf {
        self.dir.path().join("nodes")
    }

    pub(crate) fn cdi_dir(&self) -> PathBuf {
        self.dir.path().join("cdi")
    }

    /// The numbers of this machine's KVM.
    pub(crate) fn kvm(&self) -> u64 {
        self.kvm
    }

    pub(crate) fn plug_in(&self) {
        self.plug_in_other(self.kvm);
    }

    /// Puts a device in the place of KVM. Its mode is closed, as on many
    /// hosts: nobody but root may have the host's node.
    pub(crate) fn plug_in_other(&self, rdev: u64) {
        let new = self.device().with_extension("new");
        mknod(&new, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, rdev).expect("makes a node");
        fs::rename(new, self.device()).expect("renames");
    }

    pub(crate) fn plug_in_null(&self) {
        self.plug_in_other(makedev(1, 3));
    }

    /// Puts the device back as one that root may not open either, unless it may
    /// override file modes: the plugin of the prober's tests may not.
    pub(crate) fn plug_in_closed(&self) {
        let new = self.device().with_extension("new");
        mknod(
            &new,
            SFlag::S_IFCHR,
            Mode::S_IRUSR | Mode::S_IWUSR,
            self.kvm,
        )
        .expect("makes a node");
        chown(&new, Some(1), Some(1)).expect("chowns");
        fs::rename(new, self.device()).expect("renames");
    }

    pub(crate) fn probe_dir(&self) -> PathBuf {
        self.dir.path().join("probe")
    }

    /// A place that any user can reach.
    pub(crate) fn open_dir(&self) -> &Path {
        fs::set_permissions(self.dir.path(), fs::Permissions::from_mode(0o755)).expect("chmods");
        self.dir.path()
    }

    pub(crate) fn unplug(&self) {
        fs::remove_file(self.device()).expect("removes");
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            kubelet_dir: self.kubelet_dir(),
            roots: Roots {
                dev: self.dir.path().join("dev"),
                sys: self.dir.path().join("sys"),
            },
            kvm: None,
            kvm_count: u32::try_from(COUNT).expect("a small number"),
            counts: [0; 3],
            pod_resources: None,
            file: None,
            level: Level::Open,
            grant: Grant::Node {
                dir: self.node_dir(),
            },
            prober: None,
            nri: None,
            listen: None,
        }
    }

    pub(crate) async fn kubelet(&self, options: Options) -> Kubelet {
        Kubelet::serve(&self.kubelet_dir(), options)
            .await
            .expect("serves")
    }

    /// A kubelet that misbehaves, and is one like any other but for that.
    pub(crate) async fn faulty_kubelet(&self, faults: Faults) -> Kubelet {
        let options = Options {
            faults,
            ..Options::default()
        };
        self.kubelet(options).await
    }
}

/// A plugin in the test's process.
pub(crate) struct Plugin {
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

impl Plugin {
    pub(crate) fn start(config: Config) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(config, stop.clone()));
        Self { stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("ends well");
    }
}

pub(crate) async fn all_healthy(kubelet: &Kubelet) -> Vec<Device> {
    let all = |devices: &[Device]| devices.len() == COUNT && devices.iter().all(|d| d.healthy);
    kubelet
        .wait_for(RESOURCE, all, LIMIT)
        .await
        .expect("all devices are healthy")
}

pub(crate) async fn none_healthy(kubelet: &Kubelet) {
    let none = |devices: &[Device]| devices.len() == COUNT && devices.iter().all(|d| !d.healthy);
    kubelet
        .wait_for(RESOURCE, none, LIMIT)
        .await
        .expect("all devices are unhealthy");
}

/// Numbers and mode of a device node.
pub(crate) fn numbers_and_mode(path: &Path) -> (u64, u32) {
    let there = fs::symlink_metadata(path).expect("is there");
    (there.rdev(), there.permissions().mode() & 0o7777)
}
