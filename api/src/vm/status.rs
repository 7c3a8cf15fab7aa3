//! The status of a `VirtualMachine`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is known of a VM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineStatus {
    /// Where the VM is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What is true of the VM; the reasons are those of `ConditionReason`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How often a pod was made for the VM; the pod is called `<name>-<incarnation>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<i64>,
    /// The pod that runs the VM, or ran it last. Not set while the VM is halted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// The node that the pod is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The pod's IP address.
    #[serde(default, rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// When the guest started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When this pod entered each phase that it has been in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phase_transitions: Vec<PhaseTransition>,
    /// The disks that are in claims and in container images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskStatus>,
    /// The value of the annotation coracle.dev/restart that has been served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_restart: Option<String>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Why the VM last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_termination: Option<Termination>,
    /// How many pods ended in a row soon after they started; the next one waits longer each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
}

/// What is known of a disk that is in a claim or in a container image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskStatus {
    /// The disk's name.
    pub name: String,
    /// The claim's name; not there for a disk in a container image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub claim: String,
    /// The container image that the disk is in; all below is of claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The claim's volume mode: `Block` or `Filesystem`. Like all below, not there while the claim is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// The access modes that the claim got, or asks for while it is not bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
    /// The claim's storage class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// The CSI driver of the claim's volume; not there when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// How large the claim's volume is; not there before the claim is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<String>,
    /// What the claim was filled with for a VM, and so is not filled with again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_from: Option<String>,
}

/// When a VM entered a phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhaseTransition {
    /// The phase.
    pub phase: Phase,
    /// When.
    pub at: Time,
}

/// Where a VM is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Something that the VM needs is missing.
    Pending,
    /// The pod is there and has no node yet.
    Scheduling,
    /// The node prepares the pod.
    Starting,
    /// The guest runs.
    Running,
    /// The guest's virtual CPUs are stopped.
    Paused,
    /// The guest was asked to power off.
    Stopping,
    /// The VM does not run, as its run policy has it.
    Stopped,
    /// The VM does not run because something failed.
    Failed,
}

impl Phase {
    /// Every phase, in the order of a VM's life.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Scheduling,
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Stopping,
        Self::Stopped,
        Self::Failed,
    ];
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConditionType {
    /// The guest runs.
    Ready,
    /// Every claim can be used and is bound.
    DisksReady,
    /// The pod is there and has a node.
    Scheduled,
    /// The spec asks for something that only a restart brings.
    RestartRequired,
    /// Every claim made from a template is as large as the template says.
    /// Only there when a disk has a template.
    DisksSized,
}

/// The reasons that conditions carry. Beside these, `DisksReady` carries the
/// reasons of a refused claim and `Ready` the shim's termination reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConditionReason {
    /// As it should be.
    AsExpected,
    /// The manifest says something that cannot be.
    InvalidSpec,
    /// A claim has no volume yet.
    ClaimNotBound,
    /// The pod waits for a node.
    Scheduling,
    /// The node prepares the pod.
    Starting,
    /// A disk is filled before the guest starts.
    Importing,
    /// The guest was paused on request.
    Paused,
    /// The guest does not run although its container does.
    GuestNotRunning,
    /// The node does not answer: whether the guest runs is not known.
    NodeUnreachable,
    /// The guest was asked to power off.
    Stopping,
    /// The run policy is `Halted`.
    Halted,
    /// There is no pod.
    NoPod,
    /// No node has room for the pod.
    Unschedulable,
    /// No node offers a usable `/dev/kvm`.
    KvmUnavailable,
    /// No node has a device that the VM is to have.
    DeviceNotOffered,
    /// Pod Security of the namespace refuses the pod.
    PodSecurityRefused,
    /// The namespace's quota refuses the pod.
    QuotaExceeded,
    /// The API server has no image volumes, and a disk is in a container image.
    ImageVolumesUnsupported,
    /// The API server refuses the pod for another reason.
    PodRefused,
    /// Somebody else's pod has the name that the VM's next pod needs.
    PodNameTaken,
    /// An earlier pod of the VM has not provably ended.
    PreviousPodNotEnded,
    /// The node refused the pod, or evicted it.
    PodRejected,
    /// The pod was deleted by somebody before the VM ended.
    PodLost,
    /// The container was killed for using too much memory.
    OutOfMemory,
    /// The container ended without saying why.
    ContainerFailed,
    /// The spec differs from what the pod was made from.
    SpecChanged,
    /// The controller gives VMs another image now than the one the pod has.
    ImageChanged,
    /// The node cannot fetch the VM's image, or one that a disk is in.
    ImagePullFailed,
    /// The node cannot make the container: a Secret is missing, say.
    ContainerNotCreated,
    /// A LimitRange of the namespace refuses the pod.
    LimitRangeExceeded,
    /// A claim waits for a pod: its storage class binds at the first use.
    WaitsForFirstConsumer,
    /// The storage class of a claim that has no volume does not exist.
    StorageClassNotFound,
    /// A claim that a disk's template asks for was refused, or its growth was.
    ClaimRefused,
    /// A claim grows, and its volume is not as large as the template yet.
    Expanding,
    /// The storage class of a claim forbids that it grows.
    ExpansionForbidden,
}

/// Why a VM ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Termination {
    /// One of the shim's reasons, or of the conditions'.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
    /// The container's exit code; not there when the container never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// When.
    pub at: Time,
    /// Which of the VM's pods ended, or had its container restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<i64>,
}
