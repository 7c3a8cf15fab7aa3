//! What of the spec, and of the controller's settings, the running guest does
//! not have yet.

use super::imports;
use crate::applied::{Applied, differing};
use crate::cluster::decide::Observation;
use crate::cluster::facts::PodFacts;
use crate::{Settings, pod};

/// What a restart would apply.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Fields of the spec.
    pub(super) fields: Vec<String>,
    /// The image the pod has, when VMs get another one now.
    pub(super) image: Option<String>,
}

/// What a restart would apply to the VM that `pod` runs.
pub(super) fn changed(seen: &Observation, pod: &PodFacts, settings: &Settings) -> Changes {
    let mut changes = Changes::default();
    let same_spec = pod.carried.generation == seen.vm.metadata.generation;
    // Cheap to tell, and most of the time there is no more to do.
    if same_spec && pod.carried.image.as_deref() == Some(&settings.image) {
        return changes;
    }
    let Some(applied) = pod.carried.applied.as_deref().and_then(Applied::from_json) else {
        return changes;
    };
    if applied.image != settings.image {
        changes.image = Some(applied.image);
    }
    if !same_spec {
        let mut now = Applied::new(&seen.vm.spec, &settings.image);
        let mut spec = applied.spec;
        for spec in [&mut spec, &mut now.spec] {
            imports::forget_used(spec, seen);
        }
        changes.fields = differing(&spec, &now.spec);
        let (policy, codes) = pod::restarting(seen.vm.spec.run_policy, settings.restarts);
        if pod.carried.restart_policy != policy || pod.carried.restart_codes != codes {
            changes.fields.push("spec.runPolicy".to_owned());
        }
    }
    changes
}
