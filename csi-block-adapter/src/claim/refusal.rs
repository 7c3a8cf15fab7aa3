//! Why a claim cannot be a disk of a VM: for people a message that says what
//! to do, for programs a reason.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Holder;

/// Why a claim cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimRefusal {
    /// There is no such claim.
    #[error(
        "claim {claim:?} of disk {disk:?} does not exist: create it in the namespace of \
         VM {vm:?}, or correct claim.name"
    )]
    NotFound {
        /// Name of the claim.
        claim: String,
        /// Name of the disk.
        disk: String,
        /// Name of the VM.
        vm: String,
    },
    /// It is to be made from a template, and nobody has made it.
    #[error(
        "claim {claim:?} of disk {disk:?} is made from its claimTemplate by a cluster's controller, \
         and is not there yet. On one machine, add a PersistentVolumeClaim {claim:?} with the \
         labels coracle.dev/vm: {vm} and coracle.dev/disk: {disk}"
    )]
    NotMade {
        /// Name of the claim.
        claim: String,
        /// Name of the disk.
        disk: String,
        /// Name of the VM.
        vm: String,
    },
    /// A template would make it, and it is there and is somebody else's.
    #[error(
        "disk {disk:?} of VM {vm:?} is made from a template and its claim would be called {claim:?}, \
         but {whose}"
    )]
    NotOwned {
        /// Name of the claim.
        claim: String,
        /// Name of the disk.
        disk: String,
        /// Name of the VM.
        vm: String,
        /// Whose it is, and what to do.
        whose: String,
    },
    /// It is on its way out.
    #[error(
        "claim {claim:?} is being deleted and takes no new pod: give VM {vm:?} another claim, or \
         create it anew once it is gone"
    )]
    BeingDeleted {
        /// Name of the claim.
        claim: String,
        /// Name of the VM.
        vm: String,
    },
    /// Its volume is gone.
    #[error(
        "claim {claim:?} has lost its volume {volume:?}: restore the PersistentVolume, or give \
         VM {vm:?} another claim"
    )]
    Lost {
        /// Name of the claim.
        claim: String,
        /// Name of the VM.
        vm: String,
        /// Name of the volume.
        volume: String,
    },
    /// Nobody may write to it.
    #[error(
        "claim {claim:?} is ReadOnlyMany, and disk {disk:?} of VM {vm:?} is writable: set \
         readOnly: true on the disk, or use a claim with ReadWriteOnce"
    )]
    AccessModeForbidsWrite {
        /// Name of the claim.
        claim: String,
        /// Name of the disk.
        disk: String,
        /// Name of the VM.
        vm: String,
    },
    /// Only one pod may have it.
    #[error(
        "claim {claim:?} is ReadWriteOncePod and {holder} has it: stop that one before \
         VM {vm:?}, or use a claim with ReadWriteMany"
    )]
    AccessModeForbidsSharing {
        /// Name of the claim.
        claim: String,
        /// Name of the VM.
        vm: String,
        /// Who has it.
        holder: Box<Holder>,
    },
    /// Somebody else has it.
    #[error(
        "claim {claim:?} is in use by {holder}: {}",
        mend_use(holder, disk, vm)
    )]
    InUse {
        /// Name of the claim.
        claim: String,
        /// Name of the disk.
        disk: String,
        /// Name of the VM.
        vm: String,
        /// Who has it.
        holder: Box<Holder>,
    },
    /// A disk is to be filled from it, and somebody may write to it.
    #[error(
        "disk {disk:?} of VM {vm:?} is filled from claim {claim:?}, which {holder} may write to \
         meanwhile: stop that one first; VM {vm:?} then starts by itself"
    )]
    SourceInUse {
        /// Name of the claim.
        claim: String,
        /// Name of the disk.
        disk: String,
        /// Name of the VM.
        vm: String,
        /// Who has it.
        holder: Box<Holder>,
    },
    /// Its volume mode is none that a disk can have.
    #[error(
        "claim {claim:?} has volumeMode {mode:?}: VM {vm:?} needs a claim with Block or Filesystem"
    )]
    VolumeModeUnknown {
        /// Name of the claim.
        claim: String,
        /// Name of the VM.
        vm: String,
        /// The mode.
        mode: String,
    },
    /// Its capacity cannot be read.
    #[error(
        "the storage capacity of claim {claim:?} cannot be read ({text:?}): set \
         resources.requests.storage to a number of bytes such as 10Gi for VM {vm:?}"
    )]
    CapacityUnknown {
        /// Name of the claim.
        claim: String,
        /// Name of the VM.
        vm: String,
        /// What is there.
        text: String,
    },
    /// There is no room for an image.
    #[error(
        "claim {claim:?} has {capacity_bytes} bytes, which is too small for a disk image of \
         VM {vm:?}: use a claim of 2Mi at least"
    )]
    TooSmall {
        /// Name of the claim.
        claim: String,
        /// Name of the VM.
        vm: String,
        /// Its capacity.
        capacity_bytes: u64,
    },
}

fn mend_use(holder: &Holder, disk: &str, vm: &str) -> String {
    if holder.vm.is_none() {
        return format!("VM {vm:?} can have it for disk {disk:?} once that pod has ended");
    }
    format!(
        "stop that one first, or, where both guests can share a disk, set shareable: true on \
         disk {disk:?} of VM {vm:?} and on the other's"
    )
}

/// A [`ClaimRefusal`] in one word, as conditions and events carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefusalReason {
    /// [`ClaimRefusal::NotFound`]
    ClaimNotFound,
    /// [`ClaimRefusal::NotMade`]
    ClaimNotMade,
    /// [`ClaimRefusal::NotOwned`]
    ClaimNotOwned,
    /// [`ClaimRefusal::BeingDeleted`]
    ClaimBeingDeleted,
    /// [`ClaimRefusal::Lost`]
    ClaimLost,
    /// [`ClaimRefusal::AccessModeForbidsWrite`]
    AccessModeForbidsWrite,
    /// [`ClaimRefusal::AccessModeForbidsSharing`]
    AccessModeForbidsSharing,
    /// [`ClaimRefusal::InUse`] and [`ClaimRefusal::SourceInUse`]
    ClaimInUse,
    /// [`ClaimRefusal::VolumeModeUnknown`]
    VolumeModeUnknown,
    /// [`ClaimRefusal::CapacityUnknown`]
    ClaimCapacityUnknown,
    /// [`ClaimRefusal::TooSmall`]
    ClaimTooSmall,
}

impl RefusalReason {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClaimNotFound => "ClaimNotFound",
            Self::ClaimNotMade => "ClaimNotMade",
            Self::ClaimNotOwned => "ClaimNotOwned",
            Self::ClaimBeingDeleted => "ClaimBeingDeleted",
            Self::ClaimLost => "ClaimLost",
            Self::AccessModeForbidsWrite => "AccessModeForbidsWrite",
            Self::AccessModeForbidsSharing => "AccessModeForbidsSharing",
            Self::ClaimInUse => "ClaimInUse",
            Self::VolumeModeUnknown => "VolumeModeUnknown",
            Self::ClaimCapacityUnknown => "ClaimCapacityUnknown",
            Self::ClaimTooSmall => "ClaimTooSmall",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ClaimRefusal {
    /// The refusal in one word.
    #[must_use]
    pub fn reason(&self) -> RefusalReason {
        match self {
            Self::NotFound { .. } => RefusalReason::ClaimNotFound,
            Self::NotMade { .. } => RefusalReason::ClaimNotMade,
            Self::NotOwned { .. } => RefusalReason::ClaimNotOwned,
            Self::BeingDeleted { .. } => RefusalReason::ClaimBeingDeleted,
            Self::Lost { .. } => RefusalReason::ClaimLost,
            Self::AccessModeForbidsWrite { .. } => RefusalReason::AccessModeForbidsWrite,
            Self::AccessModeForbidsSharing { .. } => RefusalReason::AccessModeForbidsSharing,
            Self::InUse { .. } | Self::SourceInUse { .. } => RefusalReason::ClaimInUse,
            Self::VolumeModeUnknown { .. } => RefusalReason::VolumeModeUnknown,
            Self::CapacityUnknown { .. } => RefusalReason::ClaimCapacityUnknown,
            Self::TooSmall { .. } => RefusalReason::ClaimTooSmall,
        }
    }
}
