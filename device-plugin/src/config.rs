//! What the plugin is to do, from the command line or from `coracle run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use coracle_kvm_probe::Level;
use coracle_proto::deviceplugin::KUBELET_SOCKET;

use crate::grant::spec_path;
use crate::host::Roots;
use crate::resource::socket;

/// Where the prober's container finds the directory of its socket.
pub(crate) const PROBE_DIR: &str = "/run/coracle/probe";
/// File name of the prober's socket.
const PROBE_SOCKET: &str = "prober.sock";

/// What the plugin is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The kubelet's directory for device plugins.
    pub kubelet_dir: PathBuf,
    /// Where the host's devices are seen.
    pub roots: Roots,
    /// The host's KVM, when it is elsewhere than among its devices.
    pub kvm: Option<PathBuf>,
    /// How many containers may have KVM at once; 0: it is not advertised.
    pub kvm_count: u32,
    /// The same of tun, vhost-net and vhost-vsock.
    pub counts: [u32; 3],
    /// What KVM must be able to do.
    pub level: Level,
    /// How a container gets a device.
    pub grant: Grant,
    /// The kubelet's socket that tells what is in use.
    pub pod_resources: Option<PathBuf>,
    /// The file that says what other resources there are.
    pub file: Option<PathBuf>,
    /// Who runs guests on KVM where the plugin itself may not open it.
    pub prober: Option<Reports>,
    /// The container runtime's socket for plugins, where containers with a
    /// device of VFIO are to be allowed to lock memory.
    pub nri: Option<PathBuf>,
    /// Where metrics and the kubelet's probes of the plugin are served.
    pub listen: Option<SocketAddr>,
}

/// How a prober reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reports {
    /// The directory of the socket. It must be the same path on the host.
    pub dir: PathBuf,
    /// How long a prober may be away before the plugin judges without one.
    pub grace: Duration,
}

/// How a container gets a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Nodes of the plugin's own, open to every user. They must be the same
    /// paths on the host.
    Node {
        /// The directory of the nodes.
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

    pub(crate) fn socket(&self, resource: &str) -> PathBuf {
        self.kubelet_dir.join(socket(resource))
    }

    /// The host's KVM.
    #[must_use]
    pub fn kvm_device(&self) -> PathBuf {
        let usual = || self.roots.dev.join("kvm");
        self.kvm.clone().unwrap_or_else(usual)
    }
}

impl Reports {
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join(PROBE_SOCKET)
    }
}

impl Grant {
    /// The file that the plugin makes for a node of a resource.
    pub(crate) fn path(&self, resource: &str, own: &str) -> PathBuf {
        match self {
            Self::Node { dir } => dir.join(own),
            Self::Cdi { dir } => spec_path(dir, resource),
        }
    }
}
