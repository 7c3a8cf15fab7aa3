//! What stands behind the claims: volumes, storage classes, CSI drivers.

use coracle_block::claim::{
    ClassFacts, ClassKnown, DriverFacts, StorageFacts, VolumeFacts, storage_class,
};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::kept::Kept;

/// All that is known of the cluster's storage.
#[derive(Debug, Default)]
pub struct Storage {
    /// The volumes.
    pub volumes: Kept<VolumeFacts>,
    /// The classes.
    pub classes: Kept<ClassFacts>,
    /// The drivers.
    pub drivers: Kept<DriverFacts>,
}

impl Storage {
    /// Returns once all have been listed.
    pub async fn ready(&self) {
        self.volumes.ready().await;
        self.classes.ready().await;
        self.drivers.ready().await;
    }

    /// What stands behind a claim.
    #[must_use]
    pub fn behind(&self, claim: &PersistentVolumeClaim) -> StorageFacts {
        let spec = claim.spec.as_ref();
        let volume = spec.and_then(|spec| self.volumes.get(spec.volume_name.as_deref()?));
        let class = storage_class(claim).filter(|class| !class.is_empty());
        let class = match class.map(|class| self.classes.get(class)) {
            None => ClassKnown::Unasked,
            Some(None) => ClassKnown::Missing,
            Some(Some(class)) => ClassKnown::Known(class),
        };
        let driver = match (&volume, &class) {
            (Some(volume), _) => volume.driver.as_deref(),
            (None, ClassKnown::Known(class)) => Some(class.provisioner.as_str()),
            (None, ClassKnown::Missing | ClassKnown::Unasked) => None,
        };
        StorageFacts {
            driver: driver.and_then(|driver| self.drivers.get(driver)),
            volume,
            class,
        }
    }
}
