//! A disk's claim, made by the controller: what a `StatefulSet` calls a volume
//! claim template, flat, and with a policy of its own for each disk.
#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each struct, with its `pub`, inside a function"
)]

use k8s_openapi::api::core::v1::{TypedLocalObjectReference, TypedObjectReference};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{ImportSource, MemorySize};

/// A PersistentVolumeClaim that the controller makes, called `<vm>-<disk>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.dataSource) || !has(self.dataSourceRef)")
    .message("say at most one of dataSource and dataSourceRef"))]
#[x_kube(validation = Rule::new("!has(self.from) || !has(self.dataSource) && !has(self.dataSourceRef)")
    .message("from fills an empty volume: take it out, or dataSource and dataSourceRef").field_path(".from"))]
#[x_kube(validation = Rule::new("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0")
    .message("claimTemplate.size can grow and never shrink: no volume can").field_path(".size"))]
#[x_kube(validation = Rule::new(
    "self.accessModes == oldSelf.accessModes && self.volumeMode == oldSelf.volumeMode \
     && (has(self.storageClassName) ? has(oldSelf.storageClassName) && self.storageClassName == oldSelf.storageClassName : !has(oldSelf.storageClassName)) \
     && (has(self.dataSource) ? has(oldSelf.dataSource) && self.dataSource == oldSelf.dataSource : !has(oldSelf.dataSource)) \
     && (has(self.dataSourceRef) ? has(oldSelf.dataSourceRef) && self.dataSourceRef == oldSelf.dataSourceRef : !has(oldSelf.dataSourceRef))"
).message("a claim keeps its class, modes and source: only size, from and whenDeleted of a claimTemplate can change"))]
pub struct ClaimTemplate {
    /// How much storage is asked for: a whole number with the unit Mi, Gi or Ti. It can grow where the storage class allows expansion.
    pub size: MemorySize,
    /// The storage class; the cluster's default by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$")
    )]
    pub storage_class_name: Option<String>,
    /// As in a PersistentVolumeClaim.
    #[serde(default = "one_writer")]
    #[schemars(length(min = 1, max = 4))]
    pub access_modes: Vec<AccessMode>,
    /// `Block`: the disk is the device. `Filesystem`: the disk is a file in the volume.
    #[serde(default)]
    pub volume_mode: VolumeMode,
    /// As in a PersistentVolumeClaim: what the volume is filled with, a snapshot or another claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_source: Option<TypedLocalObjectReference>,
    /// As in a PersistentVolumeClaim: what the volume is filled with, of whatever kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_source_ref: Option<TypedObjectReference>,
    /// What the volume is filled with, once, before the VM first starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ImportSource>,
    /// What becomes of the claim when the VM is deleted. A claim that is kept is used again by the next VM of the same name.
    #[serde(default)]
    pub when_deleted: WhenDeleted,
}

fn one_writer() -> Vec<AccessMode> {
    vec![AccessMode::ReadWriteOnce]
}

/// Who may use a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum AccessMode {
    /// The pods of one node.
    ReadWriteOnce,
    /// One pod.
    ReadWriteOncePod,
    /// Pods of several nodes: what a VM needs to move while it runs.
    ReadWriteMany,
    /// Pods of several nodes, none of which writes.
    ReadOnlyMany,
}

/// What a volume is in the pod.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum VolumeMode {
    /// A device.
    #[default]
    Block,
    /// A mounted file system.
    Filesystem,
}

/// What becomes of a VM's claim with the VM.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum WhenDeleted {
    /// It stays, and its data with it.
    #[default]
    Retain,
    /// It is deleted with the VM.
    Delete,
}
