//! The disks of a `VirtualMachine`: one list, each entry with one source.
#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each struct, with its `pub`, inside a function"
)]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{ClaimTemplate, DiskClaim, DiskImage, ImportSource, MemorySize};
use crate::machine::{BlockSize, Burst};
use crate::types::{CacheMode, DetectZeroes, DiscardMode, DiskBus, DiskType, ErrorPolicy, IoMode};

/// A disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.claim), has(self.claimTemplate), has(self.image), has(self.cloudInit), has(self.ephemeral)].filter(x, x).size() == 1"
).message("say exactly one of claim, claimTemplate, image, cloudInit and ephemeral"))]
#[x_kube(validation = Rule::new(
    "has(self.claim) == has(oldSelf.claim) && has(self.claimTemplate) == has(oldSelf.claimTemplate) && has(self.image) == has(oldSelf.image) && has(self.cloudInit) == has(oldSelf.cloudInit) && has(self.ephemeral) == has(oldSelf.ephemeral)"
).message("a disk keeps its kind of source: remove it and add one with another name"))]
#[x_kube(validation = Rule::new(
    "!(has(self.shareable) && self.shareable) || !has(self.cache) || self.cache == 'None'"
).message("shareable needs cache None: another VM's writes would not be seen").field_path(".shareable"))]
#[x_kube(validation = Rule::new(
    "!(has(self.shareable) && self.shareable) || has(self.claim) || has(self.claimTemplate)"
).message("only a disk with a claim can be shareable").field_path(".shareable"))]
#[x_kube(validation = Rule::new(
    "!(has(self.shareable) && self.shareable) || !(has(self.claim) && has(self.claim.from)) && !(has(self.claimTemplate) && has(self.claimTemplate.from))"
).message("two VMs could fill a shareable disk at once: fill the claim with a VM that has it alone").field_path(".shareable"))]
#[x_kube(validation = Rule::new(
    "!has(self.image) || !has(self.image.size) || !(has(self.readOnly) && self.readOnly) && !(has(self.type) && self.type == 'Cdrom')"
).message("image.size is for a disk that the guest writes to: take it out, or readOnly and type Cdrom").field_path(".image"))]
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
    "!has(self.bus) || self.bus != 'Sata' || has(self.type) && self.type == 'Cdrom' || !has(self.cloudInit) && !(has(self.readOnly) && self.readOnly)"
).message("bus Sata has no read-only disks: choose type Cdrom, or bus Virtio, Scsi or Usb").field_path(".bus"))]
#[x_kube(validation = Rule::new(
    "!has(self.bus) || self.bus != 'Usb' || !(has(self.cache) && self.cache == 'Writethrough')"
).message("cache Writethrough has no effect on bus Usb: choose Virtio, Scsi or Sata").field_path(".cache"))]
#[x_kube(validation = Rule::new(
    "!has(self.bus) || self.bus != 'Usb' || !has(self.blockSize)"
).message("blockSize has no effect on bus Usb: choose Virtio, Scsi or Sata").field_path(".blockSize"))]
#[x_kube(validation = Rule::new(
    "!has(self.type) || self.type != 'Cdrom' || has(self.bus) && (self.bus == 'Scsi' || self.bus == 'Sata')"
).message("type Cdrom needs bus Scsi or Sata").field_path(".type"))]
#[x_kube(validation = Rule::new(
    "!has(self.type) || self.type != 'Cdrom' || !has(self.blockSize)"
).message("blockSize has no effect on type Cdrom").field_path(".blockSize"))]
#[x_kube(validation = Rule::new(
    "!has(self.type) || self.type != 'Lun' || has(self.bus) && self.bus == 'Scsi' && (has(self.claim) || has(self.claimTemplate)) && (!has(self.cache) || self.cache == 'None')"
).message("type Lun needs bus Scsi, a claim and cache None").field_path(".type"))]
#[x_kube(validation = Rule::new(
    "!has(self.type) || self.type != 'Lun' || !has(self.throttle) && !has(self.blockSize) && !has(self.serial) && (!has(self.detectZeroes) || self.detectZeroes == 'Ignore')"
).message("type Lun is the device itself: throttle, blockSize, serial and detectZeroes have no effect on it").field_path(".type"))]
#[x_kube(validation = Rule::new(
    "!has(self.detectZeroes) || self.detectZeroes != 'Unmap' || !has(self.discard) || self.discard == 'Unmap'"
).message("detectZeroes Unmap needs discard Unmap").field_path(".detectZeroes"))]
pub struct Disk {
    /// Unique in the VM; the device's name in the pod is /dev/coracle/ and the name.
    #[schemars(
        length(min = 1, max = 50),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// A PersistentVolumeClaim. volumeMode Block: the device is the disk. volumeMode Filesystem: the disk is the file disk.img in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<DiskClaim>,
    /// A PersistentVolumeClaim that is made for the VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_template: Option<ClaimTemplate>,
    /// A container image with the disk in it, which stays where it is: what the guest writes goes to an overlay that ends with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<DiskImage>,
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
    /// What the guest takes it for: a disk, a CD-ROM drive with this disk in it (read-only), or the SCSI logical unit itself.
    #[serde(rename = "type", default)]
    pub disk_type: DiskType,
    /// Host page cache policy.
    #[serde(default)]
    pub cache: CacheMode,
    /// How I/O is submitted.
    #[serde(default)]
    pub io: IoMode,
    /// What becomes of the guest's discards.
    #[serde(default)]
    pub discard: DiscardMode,
    /// What becomes of runs of zeroes that the guest writes.
    #[serde(default)]
    pub detect_zeroes: DetectZeroes,
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
    /// The most the disk may do per second; whatever the device can by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
}

/// The most a disk may do per second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.iops) || !has(self.readIops) && !has(self.writeIops)")
    .message("say either iops, or readIops and writeIops"))]
#[x_kube(validation = Rule::new("!has(self.bandwidth) || !has(self.readBandwidth) && !has(self.writeBandwidth)")
    .message("say either bandwidth, or readBandwidth and writeBandwidth"))]
#[x_kube(validation = Rule::new(
    "has(self.iops) || has(self.readIops) || has(self.writeIops) || has(self.bandwidth) || has(self.readBandwidth) || has(self.writeBandwidth)"
).message("throttle limits nothing: say iops or bandwidth"))]
pub struct Throttle {
    /// Requests, reads and writes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub iops: Option<u32>,
    /// Reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub read_iops: Option<u32>,
    /// Writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub write_iops: Option<u32>,
    /// Bytes, read and written together: a whole number with the unit Mi, Gi or Ti.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<MemorySize>,
    /// Bytes read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bandwidth: Option<MemorySize>,
    /// Bytes written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_bandwidth: Option<MemorySize>,
    /// What a disk that was idle may do at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
}

impl Disk {
    /// The claim that the disk is in: one that is named, or the one made for
    /// the VM called `vm`.
    #[must_use]
    pub fn claim_name(&self, vm: &str) -> Option<String> {
        let named = self.claim.as_ref().map(|claim| claim.name.clone());
        let made = || {
            Some(format!(
                "{vm}-{}",
                self.claim_template.as_ref().map(|_| &self.name)?
            ))
        };
        named.or_else(made)
    }

    /// What the disk's claim is filled with before the VM first starts.
    #[must_use]
    pub fn from(&self) -> Option<&ImportSource> {
        let named = self.claim.as_ref().and_then(|claim| claim.from.as_ref());
        let template = self.claim_template.as_ref();
        named.or_else(|| template.and_then(|template| template.from.as_ref()))
    }
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
