//! The disks of a `VirtualMachine`: one list, each entry with one source.
#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each struct, with its `pub`, inside a function"
)]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::MemorySize;
use crate::machine::BlockSize;
use crate::types::{CacheMode, DiscardMode, DiskBus, ErrorPolicy, IoMode};

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.claim), has(self.cloudInit), has(self.ephemeral)].filter(x, x).size() == 1"
).message("say exactly one of claim, cloudInit and ephemeral"))]
#[x_kube(validation = Rule::new(
    "has(self.claim) == has(oldSelf.claim) && has(self.cloudInit) == has(oldSelf.cloudInit) && has(self.ephemeral) == has(oldSelf.ephemeral)"
).message("a disk keeps its kind of source: remove it and add one with another name"))]
#[x_kube(validation = Rule::new(
    "!(has(self.shareable) && self.shareable) || !has(self.cache) || self.cache == 'None'"
).message("shareable needs cache None: another VM's writes would not be seen").field_path(".shareable"))]
#[x_kube(validation = Rule::new(
    "!(has(self.shareable) && self.shareable) || has(self.claim)"
).message("only a disk with a claim can be shareable").field_path(".shareable"))]
#[x_kube(validation = Rule::new(
    "!(has(self.io) && self.io == 'Native') || !has(self.cache) || self.cache == 'None'"
).message("io Native needs cache None").field_path(".io"))]
#[x_kube(validation = Rule::new(
    "!has(self.blockSize) || self.blockSize.logical <= self.blockSize.physical"
).message("blockSize.logical must not be larger than blockSize.physical").field_path(".blockSize"))]
#[x_kube(validation = Rule::new(
    "!has(self.queues) || !has(self.bus) || self.bus == 'Virtio'"
).message("queues needs bus Virtio").field_path(".queues"))]
#[x_kube(validation = Rule::new(
    "!(has(self.iothread) && self.iothread) || !has(self.bus) || self.bus == 'Virtio'"
).message("iothread needs bus Virtio").field_path(".iothread"))]
#[x_kube(validation = Rule::new(
    "!has(self.bus) || self.bus != 'Sata' || !has(self.cloudInit) && !(has(self.readOnly) && self.readOnly)"
).message("bus Sata has no read-only disks: choose Virtio, Scsi or Usb").field_path(".bus"))]
#[x_kube(validation = Rule::new(
    "!has(self.bus) || self.bus != 'Usb' || !(has(self.cache) && self.cache == 'Writethrough')"
).message("cache Writethrough has no effect on bus Usb: choose Virtio, Scsi or Sata").field_path(".cache"))]
#[x_kube(validation = Rule::new(
    "!has(self.bus) || self.bus != 'Usb' || !has(self.blockSize)"
).message("blockSize has no effect on bus Usb: choose Virtio, Scsi or Sata").field_path(".blockSize"))]
pub struct Disk {
    /// Unique in the VM; the device's name in the pod is /dev/coracle/ and the name.
    #[schemars(
        length(min = 1, max = 50),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// A PersistentVolumeClaim. volumeMode Block: the device is the disk. volumeMode Filesystem: the disk is the file disk.img in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimSource>,
    /// A seed for cloud-init (NoCloud).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init: Option<CloudInitSource>,
    /// An empty disk that ends with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<EphemeralSource>,
    /// Place in the boot order, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub boot_order: Option<u32>,
    /// How the guest sees the disk.
    #[serde(default)]
    pub bus: DiskBus,
    /// Host page cache policy.
    #[serde(default)]
    pub cache: CacheMode,
    /// How I/O is submitted.
    #[serde(default)]
    pub io: IoMode,
    /// What becomes of the guest's discards.
    #[serde(default)]
    pub discard: DiscardMode,
    /// What happens when the device returns an error.
    #[serde(default)]
    pub error_policy: ErrorPolicy,
    /// Whether the guest may only read.
    #[serde(default)]
    pub read_only: bool,
    /// Whether other VMs may use the claim at the same time; the guests must have a file system that expects it.
    #[serde(default)]
    pub shareable: bool,
    /// What the guest reads as the disk's serial number; the name's first 20 characters by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), regex(pattern = r"^[A-Za-z0-9_.+-]+$"))]
    pub serial: Option<String>,
    /// Whether the disk has an I/O thread of its own.
    #[serde(default)]
    pub iothread: bool,
    /// virtio queues; as many as virtual CPUs by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub queues: Option<u16>,
    /// Sector sizes to show; the device's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<BlockSize>,
}

/// A PersistentVolumeClaim in the VM's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSource {
    /// Name of the claim.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    pub name: String,
}

/// Data for cloud-init.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.userData) != has(self.userDataFrom)")
    .message("say exactly one of userData and userDataFrom"))]
pub struct CloudInitSource {
    /// The user-data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32768))]
    pub user_data: Option<String>,
    /// A Secret whose key `userdata` is the user-data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data_from: Option<SecretSource>,
    /// The network-config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32768))]
    pub network_data: Option<String>,
}

/// A Secret in the VM's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretSource {
    /// Name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    pub secret_name: String,
}

/// An empty disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EphemeralSource {
    /// Its size: a whole number with the unit Mi, Gi or Ti.
    pub size: MemorySize,
}
