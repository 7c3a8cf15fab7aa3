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
    /// The pod that runs the VM.
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
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Why the VM last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_termination: Option<Termination>,
}

/// Where a VM is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// The VM does not run, and will not without help.
    Failed,
}

/// The reasons that conditions carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionReason {
    /// As it should be.
    AsExpected,
    /// The manifest says something that cannot be.
    InvalidSpec,
    /// A claim is not there, not usable, or in use.
    ClaimNotUsable,
}

/// Why a VM ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Termination {
    /// One of the shim's reasons.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
    /// The container's exit code.
    pub exit_code: i32,
    /// When.
    pub at: Time,
}
