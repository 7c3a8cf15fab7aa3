//! `status.disks`: what is known of each disk that is in a claim or in a
//! container image.

use coracle_api::vm::DiskStatus;
use coracle_block::claim::{access_modes, storage_class, volume_mode};

use crate::cluster::decide::Observation;
use crate::import::imported;

/// The disks that are in claims or container images, in the order of the spec.
pub(super) fn disks(seen: &Observation) -> Vec<DiskStatus> {
    let name = seen.vm.metadata.name.as_deref().unwrap_or_default();
    let disks = seen.vm.spec.disks.iter();
    disks
        .filter_map(|disk| match (&disk.image, disk.claim_name(name)) {
            (Some(image), _) => Some(DiskStatus {
                name: disk.name.clone(),
                image: Some(image.reference.clone()),
                ..DiskStatus::default()
            }),
            (None, claim) => Some(of_claim(seen, &disk.name, claim?)),
        })
        .collect()
}

fn of_claim(seen: &Observation, disk: &str, name: String) -> DiskStatus {
    let mut status = DiskStatus {
        name: disk.to_owned(),
        ..DiskStatus::default()
    };
    if let Some(claim) = seen.observed.claims.get(&name) {
        let storage = seen.observed.storage.get(&name);
        let volume = storage.and_then(|storage| storage.volume.as_deref());
        let capacity = claim.status.as_ref().and_then(|s| s.capacity.as_ref());
        status.volume_mode = Some(volume_mode(claim).to_owned());
        status.access_modes = access_modes(claim).to_vec();
        status.storage_class = storage_class(claim)
            .filter(|class| !class.is_empty())
            .map(str::to_owned);
        status.imported_from = imported(claim).map(str::to_owned);
        status.driver = volume.and_then(|volume| Some(volume.driver.as_deref()?.to_owned()));
        status.capacity = capacity.and_then(|sizes| Some(sizes.get("storage")?.0.clone()));
    }
    status.claim = name;
    status
}
