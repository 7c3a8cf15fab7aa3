//! A node of the tests with devices in a tree like the kernel's.

use std::fs;
use std::path::PathBuf;

use coracle_device_plugin::{Config, Grant, Roots};
use coracle_kubelet::{Allocation, Device, Kubelet, Options};
use coracle_kvm_probe::Level;
use tempfile::TempDir;

use crate::kit::LIMIT;
use crate::tree::{Pci, Tree};

/// A node with devices of its own, and the plugin's configuration for it.
pub(crate) struct Machine {
    pub(crate) tree: Tree,
    dir: TempDir,
}

impl Machine {
    pub(crate) fn new() -> Option<Self> {
        let tree = Tree::new()?;
        let dir = tempfile::tempdir().expect("a directory");
        Some(Self { tree, dir })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            kubelet_dir: self.path("device-plugins"),
            roots: Roots {
                dev: self.tree.dev(),
                sys: self.tree.sys(),
            },
            kvm: None,
            kvm_count: 0,
            counts: [0; 3],
            level: Level::Open,
            grant: Grant::Node {
                dir: self.path("nodes"),
            },
            pod_resources: Some(self.path("pod-resources.sock")),
            file: Some(self.path("config.yaml")),
            prober: None,
            nri: None,
            listen: None,
        }
    }

    /// Writes the file as an editor does.
    pub(crate) fn write(&self, resources: &[&str]) {
        let new = self.path("config.new");
        fs::write(&new, format!("resources:\n{}", resources.concat())).expect("writes");
        fs::rename(new, self.path("config.yaml")).expect("renames");
    }

    pub(crate) async fn kubelet(&self) -> Kubelet {
        let options = Options {
            pod_resources: Some(self.path("pod-resources.sock")),
            ..Options::default()
        };
        Kubelet::serve(&self.path("device-plugins"), options)
            .await
            .expect("serves")
    }
}

impl Machine {
    /// Keeps the second function from guests in some way, or mends it.
    pub(crate) fn breaks(&self, how: &str, broken: bool) {
        let (address, other) = ("0000:02:00.0", "0000:02:00.1");
        match how {
            "driver" => self
                .tree
                .bind(address, Some(if broken { "nouveau" } else { "vfio-pci" })),
            "group" if broken => self.tree.pci(&Pci {
                id: (0x1022, 1),
                driver: Some("snd_hda_intel"),
                ..second(other)
            }),
            "group" => self.tree.unplug_pci(other),
            "silent" => self.tree.silence(address, broken),
            _ if broken => self.tree.unplug_pci(address),
            _ => self.tree.pci(&second(address)),
        }
        poke();
    }
}

/// Lets the kernel say that a device came, as it would of one in the tree.
/// Where that is not allowed, the plugin looks after a while.
pub(crate) fn poke() {
    let _ = fs::write("/sys/class/mem/null/uevent", "add");
}

/// Waits until the healthy devices of a resource are these.
pub(crate) async fn healthy(kubelet: &Kubelet, resource: &str, wanted: &[&str]) {
    let is = |devices: &[Device]| {
        let healthy = devices.iter().filter(|device| device.healthy);
        healthy
            .map(|device| device.id.as_str())
            .eq(wanted.iter().copied())
    };
    if let Err(error) = kubelet.wait_for(resource, is, LIMIT).await {
        panic!(
            "{resource}: {wanted:?}: {error}: {:?}",
            kubelet.devices(resource)
        );
    }
}

pub(crate) async fn allocated(kubelet: &Kubelet, resource: &str, count: usize) -> Allocation {
    kubelet.allocate(resource, count).await.expect("allocates")
}

pub(crate) fn second(address: &str) -> Pci<'_> {
    Pci {
        address,
        group: Some(8),
        numa: 1,
        ..Pci::default()
    }
}
