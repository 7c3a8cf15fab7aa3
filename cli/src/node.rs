//! The kubelet's translation: a pod, what its device plugins answered and
//! where its volumes are, to the CRI messages that make it. Follows
//! `pkg/kubelet/kuberuntime` of Kubernetes 1.37 for what a VM's pod uses and
//! refuses the rest by name.
//!
//! Pure: whatever is to be in the container must be in the arguments. A field
//! of the pod that this cannot honour is an error, never ignored.

mod container;
mod resources;
mod security;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use coracle_proto::deviceplugin::ContainerAllocateResponse;
use k8s_cri::v1::{
    DnsConfig, LinuxPodSandboxConfig, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata,
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

pub use container::container;
pub use resources::{memory_request, requests};

/// What the node adds to a pod.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The pod's uid.
    pub uid: String,
    /// Where container logs go.
    pub log_dir: PathBuf,
    /// The file that becomes the container's termination message.
    pub termination_log: PathBuf,
    /// The file that becomes the container's `/etc/hosts`.
    pub etc_hosts: PathBuf,
    /// Path of each mounted volume on the host, by volume name.
    pub mounts: BTreeMap<String, PathBuf>,
    /// Device node of each raw block volume on the host, by volume name.
    pub devices: BTreeMap<String, PathBuf>,
    /// What the device plugins want the container to get.
    pub allocated: Vec<ContainerAllocateResponse>,
    /// What is known of the machine.
    pub host: Host,
}

/// What the translation depends on in the machine.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Whether its cgroups are of version 2.
    pub unified_cgroups: bool,
}

/// A pod that this node cannot run as it is written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NodeError {
    /// It is not a pod with one container.
    #[error(
        "the pod must have exactly one container and no init containers, it has {containers} and {init}"
    )]
    Containers {
        /// How many it has.
        containers: usize,
        /// How many init containers.
        init: usize,
    },
    /// A field is set that is not supported on one machine.
    #[error("the pod sets {field}, which is not supported on one machine")]
    Unsupported {
        /// The field.
        field: String,
    },
    /// A volume is used that is not there.
    #[error("the container uses volume {volume:?}, which is not among the pod's volumes")]
    NoVolume {
        /// The volume.
        volume: String,
    },
    /// A quantity cannot be read.
    #[error("{field} is {quantity:?}, which is no quantity")]
    Quantity {
        /// Where it stands.
        field: String,
        /// The text.
        quantity: String,
    },
    /// Two device plugins contradict each other.
    #[error("two device plugins set {what} differently")]
    Conflict {
        /// What they set.
        what: String,
    },
    /// The pod wants to run as root and forbids it.
    #[error("the pod says runAsNonRoot and runs as user 0")]
    Root,
}

/// The cgroup that holds all pods of `coracle run`.
pub const CGROUP: &str = "/coracle";

/// The pod's own cgroup.
#[must_use]
pub fn cgroup_parent(uid: &str) -> String {
    format!("{CGROUP}/pod{uid}")
}

/// The only container of a pod.
pub(crate) fn only_container(pod: &Pod) -> Result<(&PodSpec, &Container), NodeError> {
    let empty = NodeError::Containers {
        containers: 0,
        init: 0,
    };
    let spec = pod.spec.as_ref().ok_or(empty)?;
    let init = spec.init_containers.as_ref().map_or(0, Vec::len);
    match (&spec.containers[..], init) {
        ([container], 0) => Ok((spec, container)),
        (containers, init) => Err(NodeError::Containers {
            containers: containers.len(),
            init,
        }),
    }
}

/// The message that makes the pod sandbox.
pub fn sandbox(pod: &Pod, placement: &Placement) -> Result<PodSandboxConfig, NodeError> {
    let (spec, _) = only_container(pod)?;
    refuse_unsupported(spec)?;
    let name = pod.metadata.name.clone().unwrap_or_default();
    let mut labels: HashMap<String, String> = pod
        .metadata
        .labels
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    labels.extend(pod_labels(pod, &placement.uid));
    Ok(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.clone(),
            uid: placement.uid.clone(),
            namespace: namespace(pod),
            attempt: 0,
        }),
        hostname: spec.hostname.clone().unwrap_or(name),
        log_directory: placement.log_dir.display().to_string(),
        // Without servers the runtime gives the host's resolv.conf, as for
        // `dnsPolicy: Default`; there is no cluster DNS here.
        dns_config: spec.dns_config.as_ref().map(|dns| DnsConfig {
            servers: dns.nameservers.clone().unwrap_or_default(),
            searches: dns.searches.clone().unwrap_or_default(),
            options: vec![],
        }),
        labels,
        annotations: pod
            .metadata
            .annotations
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent(&placement.uid),
            security_context: Some(security::of_sandbox(spec)),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    })
}

/// Fields that would change what the pod is allowed or how it is reached, and
/// that no VM's pod has.
fn refuse_unsupported(spec: &PodSpec) -> Result<(), NodeError> {
    let set = [
        ("hostNetwork", spec.host_network == Some(true)),
        ("hostPID", spec.host_pid == Some(true)),
        ("hostIPC", spec.host_ipc == Some(true)),
        ("hostUsers: false", spec.host_users == Some(false)),
        ("runtimeClassName", spec.runtime_class_name.is_some()),
        ("ephemeralContainers", spec.ephemeral_containers.is_some()),
    ];
    match set.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(NodeError::Unsupported {
            field: (*field).to_owned(),
        }),
        None => Ok(()),
    }
}

fn namespace(pod: &Pod) -> String {
    pod.metadata
        .namespace
        .clone()
        .unwrap_or_else(|| "default".to_owned())
}

/// Labels by which runtimes and their tools know a pod.
fn pod_labels(pod: &Pod, uid: &str) -> HashMap<String, String> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    HashMap::from([
        ("io.kubernetes.pod.name".to_owned(), name),
        ("io.kubernetes.pod.namespace".to_owned(), namespace(pod)),
        (crate::cri::LABEL_POD_UID.to_owned(), uid.to_owned()),
    ])
}

/// Network and IPC are the pod's, processes are each container's own.
fn namespaces() -> NamespaceOption {
    NamespaceOption {
        network: NamespaceMode::Pod.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        ..NamespaceOption::default()
    }
}

/// The hosts file that the kubelet writes for a pod.
#[must_use]
pub fn etc_hosts(ip: &str, hostname: &str) -> String {
    format!(
        "# Written by coracle, as a kubelet does.\n127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n{ip}\t{hostname}\n"
    )
}

#[cfg(test)]
mod tests;
