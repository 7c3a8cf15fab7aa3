//! What the disks that pods fill have to say in what is done about a VM.

use super::Observation;
use crate::cluster::facts::{Import, ImportState, PodFacts};
use crate::import;
use crate::template::ClaimAct;

/// What is to be written on the claims that pods of the VM have filled.
pub(super) fn notes(o: &Observation) -> Vec<ClaimAct> {
    let imports = o.pods.iter().flat_map(|pod| &pod.imports);
    imports
        .filter(|import| import.state == ImportState::Done)
        .filter_map(|import| {
            let claim = o.observed.claims.get(&import.claim)?;
            import::note(claim, &import.from)
        })
        .collect()
}

/// Whether the claim that the pod could not fill is one that counts as filled
/// now: somebody said so.
pub(super) fn counts_as_filled(o: &Observation, pod: &PodFacts) -> bool {
    let failed = |import: &&Import| matches!(import.state, ImportState::Failed(_));
    pod.imports.iter().find(failed).is_some_and(|import| {
        let claim = o.observed.claims.get(&import.claim);
        claim.and_then(import::imported).is_some()
    })
}
