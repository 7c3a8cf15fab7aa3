//! The `VirtualMachine` custom resource, `coracle.dev/v1alpha1`.
//!
//! Everything that can be said wrong is said wrong as early as possible: types,
//! enums, bounds and defaults in the structural schema, what spans fields in
//! CEL rules beside them. [`validate()`] applies the same rules where no API
//! server does. Two things are flatter than a Kubernetes user may expect:
//! `cpus` and `memory` are plain values with their refinements beside them
//! (`cpuTopology`, `cpuModel`), because a structural schema cannot say "a
//! number or an object".
#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each struct, with its `pub`, inside a function"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::types::{Accelerator, Binding, InterfaceModel};

mod claim_template;
mod device;
mod disk;
mod image;
mod import;
mod size;
mod status;
mod validate;

pub use claim_template::{AccessMode, ClaimTemplate, VolumeMode, WhenDeleted};
pub use device::Device;
pub use disk::{ClaimSource, CloudInitSource, Disk, EphemeralSource, SecretSource, Throttle};
pub use image::{DiskImage, PullPolicy};
pub use import::{DiskClaim, HttpSource, ImageSource, ImportSource};
pub use size::MemorySize;
pub use status::{
    ConditionReason, ConditionType, DiskStatus, Phase, PhaseTransition, Termination,
    VirtualMachineStatus,
};
pub use validate::{Problem, broken_rules, validate};

/// Most virtual CPUs of one VM: what q35 addresses without an IOMMU.
pub const MAX_CPUS: u32 = 255;
/// Most disks of one VM, so that each fits on the PCI root bus.
pub const MAX_DISKS: usize = 20;
/// Most interfaces of one VM, so that each fits on the PCI root bus.
pub const MAX_INTERFACES: usize = 4;
/// Most devices of one VM: as many as there are PCI Express root ports.
pub const MAX_DEVICES: usize = 16;
/// Longest name of a disk: with the prefix `disk-` it is a volume name.
pub const MAX_DISK_NAME: usize = 50;
/// Longest name of a VM: its pod is called `<name>-<incarnation>`, and a pod's
/// host name is a DNS label.
pub const MAX_VM_NAME: usize = 52;

/// A virtual machine, run as a pod.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "coracle.dev",
    version = "v1alpha1",
    kind = "VirtualMachine",
    plural = "virtualmachines",
    shortname = "cvm",
    category = "all",
    namespaced,
    status = "VirtualMachineStatus",
    derive = "PartialEq",
    validation = Rule::new("size(self.metadata.name) <= 52")
        .message("metadata.name must have at most 52 characters: the pod is named after it"),
    printcolumn(json_path = ".status.phase", name = "Phase", type_ = "string"),
    printcolumn(json_path = ".status.conditions[?(@.type=='Ready')].status", name = "Ready", type_ = "string"),
    printcolumn(json_path = ".status.nodeName", name = "Node", type_ = "string"),
    printcolumn(json_path = ".status.podIP", name = "IP", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date"),
    printcolumn(json_path = ".spec.cpus", name = "CPUs", type_ = "integer", priority = 1),
    printcolumn(json_path = ".spec.memory", name = "Memory", type_ = "string", priority = 1),
    printcolumn(json_path = ".status.podName", name = "Pod", type_ = "string", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.cpuTopology) || self.cpuTopology.sockets * self.cpuTopology.cores * self.cpuTopology.threads == self.cpus"
).message("sockets × cores × threads must equal spec.cpus").field_path(".cpuTopology"))]
#[x_kube(validation = Rule::new(
    "!has(self.disks) || self.disks.all(d, !has(d.bootOrder) || self.disks.exists_one(e, has(e.bootOrder) && e.bootOrder == d.bootOrder))"
).message("two disks have the same bootOrder").field_path(".disks"))]
#[x_kube(validation = Rule::new(
    "!has(self.disks) || self.disks.all(d, !has(d.claim) || self.disks.exists_one(e, has(e.claim) && e.claim.name == d.claim.name))"
).message("two disks use the same claim").field_path(".disks"))]
#[x_kube(validation = Rule::new(
    "!has(self.disks) || self.disks.filter(d, has(d.bus) && d.bus == 'Sata').size() <= 6"
).message("at most 6 disks can be on bus Sata").field_path(".disks"))]
#[x_kube(validation = Rule::new(
    "has(self.firmware) && has(self.firmware.kernel) || has(self.disks) && self.disks.exists(d, has(d.claim) || has(d.claimTemplate) || has(d.image) || has(d.ephemeral))"
).message("nothing to boot from: add a disk with a claim, or spec.firmware.kernel"))]
pub struct VirtualMachineSpec {
    /// When the VM runs: `Always` (also after the guest powers off), `OnFailure` (again after a crash), `Once`, or `Halted` (not at all).
    #[serde(default)]
    pub run_policy: RunPolicy,
    /// `Kvm` (hardware virtualization) or `Emulation` (software, slow). There is no fallback from one to the other.
    #[serde(default)]
    pub accelerator: Accelerator,
    /// Number of virtual CPUs.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 255))]
    pub cpus: u32,
    /// How the virtual CPUs are presented to the guest; by default as cores of one socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_topology: Option<CpuTopology>,
    /// qemu CPU model; by default the host's own under Kvm, and everything that can be emulated under Emulation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 100),
        regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._+=,-]*$")
    )]
    pub cpu_model: Option<String>,
    /// The guest's memory: a whole number with the unit Mi, Gi or Ti.
    pub memory: MemorySize,
    /// What the virtual CPU runs first; BIOS by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// The disks. The guest sees them in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub disks: Vec<Disk>,
    /// The network cards. Without any the guest has no network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub interfaces: Vec<Interface>,
    /// Devices of the node that the guest has to itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub devices: Vec<Device>,
    /// How long the guest may take to shut down, in seconds.
    #[serde(default = "sixty")]
    #[schemars(range(min = 5, max = 86400))]
    pub termination_grace_period_seconds: i64,
    /// Groups that the VM's processes belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<PodSecurity>,
    /// As in a pod: labels that the node must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// As in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// As in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<Toleration>>,
    /// As in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// As in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// As in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// As in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
}

fn one() -> u32 {
    1
}

fn sixty() -> i64 {
    60
}

/// When a VM runs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum RunPolicy {
    /// Started again whatever ended it.
    #[default]
    Always,
    /// Started again after a crash, not after the guest powered off.
    OnFailure,
    /// Started once.
    Once,
    /// Not running.
    Halted,
}

/// How virtual CPUs are presented to the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CpuTopology {
    /// Sockets.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 255))]
    pub sockets: u32,
    /// Cores per socket.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 255))]
    pub cores: u32,
    /// Threads per core.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 255))]
    pub threads: u32,
}

/// What the virtual CPU runs first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.bios) != has(self.kernel)")
    .message("say exactly one of bios and kernel"))]
pub struct Firmware {
    /// SeaBIOS: boots the disk with the lowest bootOrder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bios: Option<Bios>,
    /// A Linux kernel, loaded directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Kernel>,
}

/// SeaBIOS; has no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Bios {}

/// A Linux kernel in a filesystem claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    /// The filesystem claim that holds the files; mounted read-only.
    pub claim: ClaimSource,
    /// Path of the kernel in the claim.
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^[A-Za-z0-9_+-][A-Za-z0-9._+-]*(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*$")
    )]
    pub path: String,
    /// Path of the initial ram disk in the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^[A-Za-z0-9_+-][A-Za-z0-9._+-]*(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*$")
    )]
    pub initrd: Option<String>,
    /// The kernel's command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2047))]
    pub cmdline: String,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Unique in the VM.
    #[schemars(
        length(min = 1, max = 50),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// How it reaches the pod's network. `Slirp`: outgoing TCP and UDP, no privilege.
    pub binding: Binding,
    /// The card the guest sees.
    #[serde(default)]
    pub model: InterfaceModel,
    /// Hardware address; by default made from the names of namespace, VM and interface, so that it stays the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$"))]
    pub mac_address: Option<String>,
}

/// Groups that the VM's processes belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSecurity {
    /// Group ids; by default 6, the group `disk` of most distributions, which owns block devices.
    #[schemars(length(max = 16))]
    pub supplemental_groups: Vec<i64>,
}
