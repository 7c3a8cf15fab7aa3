//! The claim side: what is known of a `PersistentVolumeClaim` becomes the
//! pod's volume and the disk's source, or a typed refusal.
//!
//! Pure: claim and pods are looked up by the caller. A claim that is not bound
//! yet is no refusal: with `WaitForFirstConsumer` it binds because the pod is
//! there, and the scheduler knows best.

mod explain;
mod facts;
mod note;
mod quantity;
mod refusal;

use std::fmt;

use coracle_api::{machine::DiskSource, names};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Volume, VolumeDevice, VolumeMount,
};

pub use self::explain::{Ability, Explanation, Subject, explain};
pub use self::facts::{
    ClassFacts, ClassKnown, DriverFacts, NO_PROVISIONER, NodeFacts, StorageFacts, VolumeFacts,
};
pub use self::note::ClaimNote;
pub use self::quantity::bytes as quantity_bytes;
pub use self::refusal::{ClaimRefusal, RefusalReason};

/// What a VM wants of a claim.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Name of the disk.
    pub disk: &'a str,
    /// Name of the claim.
    pub claim: &'a str,
    /// Name of the VM.
    pub vm: &'a str,
    /// Whether the VM only reads.
    pub read_only: bool,
    /// Whether others may have the disk at the same time.
    pub shareable: bool,
}

/// A pod that uses the claim and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Name of the pod.
    pub pod: String,
    /// Name of the VM it runs, if it runs one.
    pub vm: Option<String>,
    /// Whether it only reads.
    pub read_only: bool,
    /// Whether its VM has the disk as `shareable`.
    pub shareable: bool,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.vm {
            Some(vm) => write!(f, "VM {vm:?} (pod {:?})", self.pod),
            None => write!(f, "pod {:?}", self.pod),
        }
    }
}

/// How a claim enters the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimPlan {
    /// The pod's volume, named `disk-<disk>`.
    pub volume: Volume,
    /// How the container gets it.
    pub attachment: Attachment,
    /// Where the shim finds the disk: for the machine description.
    pub source: DiskSource,
    /// What the user should know and nothing has to be refused for.
    pub notes: Vec<ClaimNote>,
}

/// How a container gets a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Attachment {
    /// As a block device.
    Block(VolumeDevice),
    /// As a mounted file system that holds an image.
    Filesystem {
        /// The mount.
        mount: VolumeMount,
        /// How large the claim is, in bytes.
        capacity_bytes: u64,
    },
}

/// A file system needs room of its own. Of a claim's capacity this share, in
/// percent, is left to it when an empty image is created: a sparse image of
/// the claim's full size would meet "no space left" before the guest does.
/// ext4 takes 1.6 % for inodes and keeps a journal of up to 1 GiB.
const FILESYSTEM_PERCENT: u64 = 6;
/// Images are a whole number of these, so that any sector size divides them.
const IMAGE_UNIT: u64 = 1 << 20;

/// Plans how a claim enters the pod of a VM.
///
/// `holders` are the pods that use the claim now; the VM's own (an earlier
/// incarnation) do not count, because the controller waits for their end.
pub fn plan(
    wanted: &Wanted<'_>,
    claim: Option<&PersistentVolumeClaim>,
    storage: &StorageFacts,
    holders: &[Holder],
) -> Result<ClaimPlan, ClaimRefusal> {
    let claim = claim.ok_or_else(|| ClaimRefusal::NotFound {
        claim: wanted.claim.into(),
        disk: wanted.disk.into(),
        vm: wanted.vm.into(),
    })?;
    let notes = check_phase(wanted, claim, storage)?;
    check_access(wanted, claim, holders)?;
    check_holders(wanted, holders)?;
    let (attachment, source) = attach(wanted, claim)?;
    let volume = Volume {
        name: volume_name(wanted.disk),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: wanted.claim.into(),
            // For a block device the kubelet then leaves the write permission
            // out of the container's device cgroup.
            read_only: wanted.read_only.then_some(true),
        }),
        ..Volume::default()
    };
    Ok(ClaimPlan {
        volume,
        attachment,
        source,
        notes,
    })
}

/// Name of a disk's volume in the pod.
#[must_use]
pub fn volume_name(disk: &str) -> String {
    format!("disk-{disk}")
}

fn check_phase(
    wanted: &Wanted<'_>,
    claim: &PersistentVolumeClaim,
    storage: &StorageFacts,
) -> Result<Vec<ClaimNote>, ClaimRefusal> {
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(ClaimRefusal::BeingDeleted {
            claim: wanted.claim.into(),
            vm: wanted.vm.into(),
        });
    }
    match claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
    {
        Some("Bound") => Ok(vec![]),
        Some("Lost") => {
            let volume = claim
                .spec
                .as_ref()
                .and_then(|spec| spec.volume_name.clone());
            Err(ClaimRefusal::Lost {
                claim: wanted.claim.into(),
                vm: wanted.vm.into(),
                volume: volume.unwrap_or_default(),
            })
        }
        // Pending, not looked at by any controller yet, or a phase of a later
        // Kubernetes: the scheduler decides.
        _ => Ok(vec![note::unbound(wanted.claim, claim, storage)]),
    }
}

/// The claim's storage class; `Some("")` says that it wants none.
#[must_use]
pub fn storage_class(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.storage_class_name.as_deref()
}

/// The claim's volume mode.
#[must_use]
pub fn volume_mode(claim: &PersistentVolumeClaim) -> &str {
    // The API server fills in Filesystem; a manifest on disk may lack it.
    let mode = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_mode.as_deref());
    mode.unwrap_or("Filesystem")
}

/// The access modes that the claim got, or asks for while it is not bound.
#[must_use]
pub fn access_modes(claim: &PersistentVolumeClaim) -> &[String] {
    let got = claim
        .status
        .as_ref()
        .and_then(|status| status.access_modes.as_deref());
    let asked = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.access_modes.as_deref());
    got.filter(|modes| !modes.is_empty())
        .or(asked)
        .unwrap_or_default()
}

fn check_access(
    wanted: &Wanted<'_>,
    claim: &PersistentVolumeClaim,
    holders: &[Holder],
) -> Result<(), ClaimRefusal> {
    let modes = access_modes(claim);
    let only = |mode: &str| !modes.is_empty() && modes.iter().all(|found| found == mode);
    if !wanted.read_only && only("ReadOnlyMany") {
        return Err(ClaimRefusal::AccessModeForbidsWrite {
            claim: wanted.claim.into(),
            disk: wanted.disk.into(),
            vm: wanted.vm.into(),
        });
    }
    match others(wanted, holders).next() {
        Some(holder) if only("ReadWriteOncePod") => Err(ClaimRefusal::AccessModeForbidsSharing {
            claim: wanted.claim.into(),
            vm: wanted.vm.into(),
            holder: Box::new(holder.clone()),
        }),
        _ => Ok(()),
    }
}

fn check_holders(wanted: &Wanted<'_>, holders: &[Holder]) -> Result<(), ClaimRefusal> {
    let agrees = |holder: &Holder| {
        (wanted.shareable && holder.shareable) || (wanted.read_only && holder.read_only)
    };
    match others(wanted, holders).find(|holder| !agrees(holder)) {
        None => Ok(()),
        Some(holder) => Err(ClaimRefusal::InUse {
            claim: wanted.claim.into(),
            disk: wanted.disk.into(),
            vm: wanted.vm.into(),
            holder: Box::new(holder.clone()),
        }),
    }
}

fn others<'a>(wanted: &Wanted<'a>, holders: &'a [Holder]) -> impl Iterator<Item = &'a Holder> {
    let vm = wanted.vm;
    holders
        .iter()
        .filter(move |holder| holder.vm.as_deref() != Some(vm))
}

fn attach(
    wanted: &Wanted<'_>,
    claim: &PersistentVolumeClaim,
) -> Result<(Attachment, DiskSource), ClaimRefusal> {
    match volume_mode(claim) {
        "Block" => Ok(attach_block(wanted)),
        "Filesystem" => attach_filesystem(wanted, capacity(wanted, claim)?),
        other => Err(ClaimRefusal::VolumeModeUnknown {
            claim: wanted.claim.into(),
            vm: wanted.vm.into(),
            mode: other.into(),
        }),
    }
}

fn attach_block(wanted: &Wanted<'_>) -> (Attachment, DiskSource) {
    let path = format!("{}/{}", names::BLOCK_DIR, wanted.disk);
    let device = VolumeDevice {
        name: volume_name(wanted.disk),
        device_path: path.clone(),
    };
    (Attachment::Block(device), DiskSource::Block { path })
}

fn attach_filesystem(
    wanted: &Wanted<'_>,
    capacity_bytes: u64,
) -> Result<(Attachment, DiskSource), ClaimRefusal> {
    let mount_path = format!("{}/{}", names::DISK_DIR, wanted.disk);
    let path = format!("{mount_path}/{}", names::DISK_IMAGE);
    let image_bytes = image_bytes(capacity_bytes);
    if image_bytes == 0 {
        return Err(ClaimRefusal::TooSmall {
            claim: wanted.claim.into(),
            vm: wanted.vm.into(),
            capacity_bytes,
        });
    }
    let mount = VolumeMount {
        name: volume_name(wanted.disk),
        mount_path,
        read_only: wanted.read_only.then_some(true),
        ..VolumeMount::default()
    };
    // Who only reads has no use for an empty image, and could not create it.
    let create_bytes = (!wanted.read_only).then_some(image_bytes);
    let source = DiskSource::File { path, create_bytes };
    Ok((
        Attachment::Filesystem {
            mount,
            capacity_bytes,
        },
        source,
    ))
}

/// How large an image is made on an empty file system of this capacity.
#[must_use]
pub fn image_bytes(capacity_bytes: u64) -> u64 {
    let room = capacity_bytes / 100 * (100 - FILESYSTEM_PERCENT);
    room - room % IMAGE_UNIT
}

/// The capacity that the claim got, or asks for while it is not bound.
fn capacity(wanted: &Wanted<'_>, claim: &PersistentVolumeClaim) -> Result<u64, ClaimRefusal> {
    let got = claim
        .status
        .as_ref()
        .and_then(|status| status.capacity.as_ref());
    let asked = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let asked = asked.and_then(|resources| resources.requests.as_ref());
    let storage = got
        .and_then(|capacity| capacity.get("storage"))
        .or_else(|| asked.and_then(|requests| requests.get("storage")));
    let text = storage.map_or("", |quantity| quantity.0.as_str());
    quantity::bytes(text).ok_or_else(|| ClaimRefusal::CapacityUnknown {
        claim: wanted.claim.into(),
        vm: wanted.vm.into(),
        text: text.into(),
    })
}

#[cfg(test)]
mod tests;
