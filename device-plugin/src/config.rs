//! What the plugin is to do, from the command line or from `coracle run`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_kvm_probe::Level;
use coracle_proto::deviceplugin::KUBELET_SOCKET;

use crate::resource::Resource;

/// Where a container finds the device.
pub(crate) const CONTAINER_PATH: &str = "/dev/kvm";
/// Where the prober's container finds the directory of its socket.
pub(crate) const PROBE_DIR: &str = "/run/coracle/probe";
/// File name of the prober's socket.
const PROBE_SOCKET: &str = "prober.sock";

/// What the plugin is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The kubelet's directory for device plugins.
    pub kubelet_dir: PathBuf,
    /// The host's device.
    pub device: PathBuf,
    /// How many containers may have it at once.
    pub count: usize,
    /// What the device must be able to do.
    pub level: Level,
    /// How a container gets it.
    pub grant: Grant,
    /// Who runs guests on it where the plugin itself may not open it.
    pub prober: Option<Reports>,
}

/// How a prober reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reports {
    /// The directory of the socket. It must be the same path on the host.
    pub dir: PathBuf,
    /// How long a prober may be away before the plugin judges without one.
    pub grace: Duration,
}

/// How a container gets the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// A node of the plugin's own, open to every user. It must be the same
    /// path on the host.
    Node {
        /// The directory of the node.
        dir: PathBuf,
    },
    /// The container runtime makes the node, by the Container Device
    /// Interface.
    Cdi {
        /// The directory of the specification, one that the runtime reads.
        dir: PathBuf,
    },
}

impl Config {
    pub(crate) fn kubelet_socket(&self) -> PathBuf {
        self.kubelet_dir.join(KUBELET_SOCKET)
    }

    pub(crate) fn socket(&self, resource: Resource) -> PathBuf {
        self.kubelet_dir.join(resource.socket())
    }
}

impl Reports {
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join(PROBE_SOCKET)
    }
}

impl Grant {
    /// The file that the plugin makes for it.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Node { dir } => dir.join("kvm"),
            Self::Cdi { dir } => dir.join("coracle.dev-kvm.json"),
        }
    }

    /// The directory of that file.
    pub(crate) fn dir(&self) -> &Path {
        match self {
            Self::Node { dir } | Self::Cdi { dir } => dir,
        }
    }
}
