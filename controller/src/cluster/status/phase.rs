//! Where a VM is in its life.

use coracle_api::vm::{ConditionReason, Phase, Termination};

use super::Sources;
use crate::cluster::apply::Outcome;
use crate::cluster::decide::Stage;
use crate::cluster::facts::{Cause, Container, PodFacts, word};

/// The phase.
pub(super) fn phase(sources: &Sources<'_>) -> Phase {
    match (sources.outcome, &sources.decision.stage) {
        (Outcome::Created(_), _) => Phase::Scheduling,
        (Outcome::Refused(_), _) | (_, Stage::Refused(_) | Stage::Creating) => Phase::Pending,
        (_, Stage::Deleting | Stage::Leaving(_)) => Phase::Stopping,
        (_, Stage::Halted) => Phase::Stopped,
        (_, Stage::Live(pod)) => of_pod(sources, pod),
        (
            _,
            Stage::Over {
                termination, again, ..
            },
        ) => of_end(termination, again.is_some()),
    }
}

fn of_pod(sources: &Sources<'_>, pod: &PodFacts) -> Phase {
    let old = sources.old();
    let before = old
        .phase
        .filter(|_| old.incarnation == Some(pod.incarnation));
    match &pod.container {
        _ if pod.node.is_none() => Phase::Scheduling,
        Container::Running { ready: Some(_), .. } => Phase::Running,
        Container::Running { ready: None, .. } => standing_still(pod, before),
        Container::Unknown | Container::Waiting { .. } | Container::Terminated => Phase::Starting,
    }
}

/// The phase while the shim says that the guest's virtual CPUs stand still.
/// What is wanted of a guest reaches it seconds after its pod: only the shim's
/// word makes a guest that ran `Paused`, and one that was paused `Running`.
fn standing_still(pod: &PodFacts, before: Option<Phase>) -> Phase {
    if pod.carried.desired == "Paused" {
        return Phase::Paused;
    }
    match before {
        // One that ran is stopped by a disk's error, say: the condition Ready
        // tells it.
        Some(phase @ (Phase::Running | Phase::Paused)) => phase,
        Some(_) | None => Phase::Starting,
    }
}

fn of_end(termination: &Termination, again: bool) -> Phase {
    let lost = termination.reason == word(&ConditionReason::PodLost);
    match Cause::of(termination) {
        Cause::Asked | Cause::GuestOff if again => Phase::Stopping,
        Cause::Asked if lost => Phase::Failed,
        Cause::Asked | Cause::GuestOff => Phase::Stopped,
        Cause::Crash | Cause::Config | Cause::Host | Cause::Rejected => Phase::Failed,
    }
}
