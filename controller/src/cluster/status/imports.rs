//! What is said of a disk that is filled before its VM first starts.

use coracle_api::vm::{ConditionReason, VirtualMachineSpec};

use super::conditions::Says;
use super::ready::waits;
use crate::cluster::decide::Observation;
use crate::cluster::facts::{Import, ImportState, PodFacts};
use crate::import::{container_name, imported};

/// The option and the variable that name the importer's image.
const NAMED_BY: &str = "the controller's --importer-image (CORACLE_IMPORTER_IMAGE)";

/// What a pod that is not ready says of its first disk that is not filled.
pub(super) fn says(pod: &PodFacts) -> Option<Says> {
    let unfilled = |import: &&Import| import.state != ImportState::Done;
    let import = pod.imports.iter().find(unfilled)?;
    let Import { disk, from, .. } = import;
    Some(match &import.state {
        ImportState::Done => return None,
        ImportState::Failed(ended) => Says::because(
            ended.reason.clone(),
            format!(
                "disk {disk:?} is not filled from {from}: {}; the node tries again",
                ended.message
            ),
        ),
        ImportState::Running => Says::no(
            ConditionReason::Importing,
            format!(
                "disk {disk:?} is filled from {from}: kubectl logs {} -c {} shows how far it is",
                pod.name,
                container_name(disk)
            ),
        ),
        ImportState::Waiting {
            reason,
            message,
            image,
        } => waits(pod, reason, message, image, NAMED_BY),
    })
}

/// Takes what a claim was filled with out of a spec: it is of no use any more,
/// and another one in its place would change nothing.
pub(super) fn forget_used(spec: &mut VirtualMachineSpec, seen: &Observation) {
    let vm = seen.vm.metadata.name.as_deref().unwrap_or_default();
    for disk in &mut spec.disks {
        let claim = disk.claim_name(vm);
        let claim = claim.and_then(|claim| seen.observed.claims.get(&claim));
        if claim.and_then(imported).is_some() {
            let named = disk.claim.as_mut().map(|claim| &mut claim.from);
            let made = disk
                .claim_template
                .as_mut()
                .map(|template| &mut template.from);
            for from in named.into_iter().chain(made) {
                *from = None;
            }
        }
    }
}
