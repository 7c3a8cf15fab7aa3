//! What there is to say of a claim that can be used and has no volume yet.
//! With `WaitForFirstConsumer` it binds because the pod is there, so none of
//! this keeps a pod from being made.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::facts::{ClassKnown, NO_PROVISIONER, StorageFacts};
use super::storage_class;

/// Why a claim that can be used has no volume yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimNote {
    /// Its class binds it when a pod uses it.
    #[error(
        "claim {claim:?} is not bound yet: storage class {class:?} binds it \
         (WaitForFirstConsumer) once the VM's pod has a node"
    )]
    WaitsForFirstConsumer {
        /// Name of the claim.
        claim: String,
        /// Name of its storage class.
        class: String,
    },
    /// Somebody makes the volume now.
    #[error(
        "claim {claim:?} is not bound yet: {provisioner} makes its volume (storage class {class:?}). \
         If this lasts, kubectl describe pvc {claim} says why"
    )]
    Provisioning {
        /// Name of the claim.
        claim: String,
        /// Name of its storage class.
        class: String,
        /// Who makes it.
        provisioner: String,
    },
    /// Nobody makes volumes for it.
    #[error(
        "claim {claim:?} is not bound yet, and nothing makes volumes for it (storage class {}): \
         create a PersistentVolume that fits, or name another class",
        class.as_deref().unwrap_or("not set")
    )]
    NeedsStaticVolume {
        /// Name of the claim.
        claim: String,
        /// Name of its storage class.
        class: Option<String>,
    },
    /// Its class is not there.
    #[error(
        "claim {claim:?} is not bound, and its storage class {class:?} does not exist: create the \
         class, or a claim with one of those that kubectl get storageclass lists"
    )]
    ClassMissing {
        /// Name of the claim.
        claim: String,
        /// Name of its storage class.
        class: String,
    },
    /// It is not bound, and nobody looked why.
    #[error(
        "claim {claim:?} is not bound yet (storage class {}): the pod starts once it is",
        storage_class.as_deref().unwrap_or("not set")
    )]
    NotBoundYet {
        /// Name of the claim.
        claim: String,
        /// Name of its storage class.
        storage_class: Option<String>,
    },
}

/// Why a claim has no volume yet.
pub(super) fn unbound(
    name: &str,
    claim: &PersistentVolumeClaim,
    storage: &StorageFacts,
) -> ClaimNote {
    let claim_name = || name.to_owned();
    match (&storage.class, storage_class(claim)) {
        (ClassKnown::Known(class), _) if class.waits_for_consumer => {
            ClaimNote::WaitsForFirstConsumer {
                claim: claim_name(),
                class: class.name.clone(),
            }
        }
        (ClassKnown::Known(class), _) if class.provisioner != NO_PROVISIONER => {
            ClaimNote::Provisioning {
                claim: claim_name(),
                class: class.name.clone(),
                provisioner: class.provisioner.clone(),
            }
        }
        (ClassKnown::Missing, Some(class)) => ClaimNote::ClassMissing {
            claim: claim_name(),
            class: class.to_owned(),
        },
        (ClassKnown::Known(_), class) | (ClassKnown::Unasked, class @ Some("")) => {
            ClaimNote::NeedsStaticVolume {
                claim: claim_name(),
                class: class.filter(|class| !class.is_empty()).map(str::to_owned),
            }
        }
        (ClassKnown::Missing | ClassKnown::Unasked, class) => ClaimNote::NotBoundYet {
            claim: claim_name(),
            storage_class: class.map(str::to_owned),
        },
    }
}
