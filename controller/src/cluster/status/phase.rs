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
    let ran = old.incarnation == Some(pod.incarnation)
        && matches!(old.phase, Some(Phase::Running | Phase::Paused));
    match &pod.container {
        _ if pod.node.is_none() => Phase::Scheduling,
        Container::Running { ready: Some(_), .. } => Phase::Running,
        Container::Running { ready: None, .. } if pod.carried.desired == "Paused" => Phase::Paused,
        // The guest ran, and is stopped by a disk's error, say: the condition
        // Ready tells it, the phase stays.
        Container::Running { ready: None, .. } if ran => Phase::Running,
        Container::Running { ready: None, .. }
        | Container::Unknown
        | Container::Waiting { .. }
        | Container::Terminated => Phase::Starting,
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
