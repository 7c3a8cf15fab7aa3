//! The status that a VM should have: a pure function of what was observed,
//! decided and done, and of the status it has.

use coracle_api::vm::{ConditionReason, Phase, PhaseTransition, Termination, VirtualMachineStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::apply::Outcome;
use super::decide::{Decision, Observation, Stage, failures};
use super::facts::{Container, PodFacts};
use crate::Settings;

mod changes;
mod conditions;
mod disks;
mod imports;
mod node;
mod phase;
mod ready;

pub use conditions::condition;

/// Everything a status is made from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// What was observed.
    pub seen: &'a Observation,
    /// What was decided.
    pub decision: &'a Decision,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// What the administrator decided.
    pub settings: &'a Settings,
    /// The time.
    pub now: Timestamp,
}

/// What to do with a status.
#[derive(Clone, Debug, PartialEq)]
pub enum Due {
    /// Write it.
    Write(Box<VirtualMachineStatus>),
    /// It may have moved on after this long, and then one write does.
    Later(SignedDuration),
    /// It is there already.
    Nothing,
}

impl<'a> Sources<'a> {
    /// The pod that the status speaks of.
    #[must_use]
    pub fn pod(&self) -> Option<&'a PodFacts> {
        match (self.outcome, &self.decision.stage) {
            (Outcome::Created(pod), _) | (_, Stage::Live(pod) | Stage::Leaving(pod)) => Some(pod),
            (_, Stage::Over { pod, .. }) => pod.as_deref(),
            (_, Stage::Deleting | Stage::Halted | Stage::Refused(_) | Stage::Creating) => None,
        }
    }

    fn old(&self) -> VirtualMachineStatus {
        self.seen.vm.status.clone().unwrap_or_default()
    }

    /// How the VM last ended, if that is news.
    fn termination(&self) -> Option<Termination> {
        if let Stage::Over { termination, .. } = &self.decision.stage {
            return Some((**termination).clone());
        }
        let latest = self.seen.pods.iter().max_by_key(|pod| pod.incarnation)?;
        let ended = latest.termination().or(latest.last_crash.as_ref());
        ended.cloned()
    }
}

/// The status that the VM should have; `None` while it is being deleted.
#[must_use]
pub fn status(sources: &Sources<'_>) -> Option<VirtualMachineStatus> {
    if matches!(sources.decision.stage, Stage::Deleting) {
        return None;
    }
    let old = sources.old();
    let pod = sources.pod();
    let phase = phase::phase(sources);
    let halted = matches!(sources.decision.stage, Stage::Halted);
    let incarnation = pod.map(|pod| pod.incarnation).max(old.incarnation);
    let pod_name = match pod {
        Some(pod) => Some(pod.name.clone()),
        None if halted => None,
        None => old.pod_name.clone(),
    };
    let served = match pod {
        Some(pod) => pod.carried.restart.clone(),
        None => old.served_restart.clone(),
    };
    Some(VirtualMachineStatus {
        phase: Some(phase),
        conditions: conditions::conditions(sources, phase, &old),
        incarnation,
        pod_name,
        node_name: pod.and_then(|pod| pod.node.clone()),
        pod_ip: pod
            .filter(|pod| pod.termination().is_none())
            .and_then(|pod| pod.ip.clone()),
        started_at: pod.and_then(started_at),
        phase_transitions: transitions(sources, phase, &old),
        disks: disks::disks(sources.seen),
        served_restart: served,
        observed_generation: sources.seen.vm.metadata.generation,
        failures: failed_starts(sources, &old),
        last_termination: sources.termination().or(old.last_termination),
    })
}

fn started_at(pod: &PodFacts) -> Option<Time> {
    match pod.container {
        Container::Running { since, .. } => Some(Time(since)),
        Container::Unknown | Container::Waiting { .. } | Container::Terminated => None,
    }
}

fn failed_starts(sources: &Sources<'_>, old: &VirtualMachineStatus) -> Option<u32> {
    let count = match &sources.decision.stage {
        Stage::Halted => 0,
        Stage::Over { termination, .. } => {
            let pods = sources.seen.pods.iter();
            failures(
                sources.seen,
                termination,
                pods.max_by_key(|pod| pod.incarnation),
            )
        }
        Stage::Deleting
        | Stage::Refused(_)
        | Stage::Creating
        | Stage::Live(_)
        | Stage::Leaving(_) => return old.failures,
    };
    Some(count).filter(|count| *count > 0)
}

/// When the pod entered each phase. What Kubernetes knows of phases that no
/// write was spent on is filled in.
fn transitions(
    sources: &Sources<'_>,
    phase: Phase,
    old: &VirtualMachineStatus,
) -> Vec<PhaseTransition> {
    let pod = sources.pod();
    let same = pod.is_none_or(|pod| Some(pod.incarnation) == old.incarnation);
    let mut list = if same {
        old.phase_transitions.clone()
    } else {
        vec![]
    };
    let mut enter = |phase: Phase, at: Timestamp, again: bool| {
        let known = list.iter().any(|entry| entry.phase == phase);
        if known && !again {
            return;
        }
        list.retain(|entry| entry.phase != phase);
        list.push(PhaseTransition {
            phase,
            at: Time(at),
        });
    };
    if let Some(pod) = pod {
        enter(Phase::Scheduling, pod.created_at, false);
        if let Some(at) = pod.scheduled_at {
            enter(Phase::Starting, at, false);
        }
    }
    let entered = match pod.map(|pod| &pod.container) {
        Some(Container::Running {
            ready: Some(at), ..
        }) if phase == Phase::Running => *at,
        _ => sources.now,
    };
    enter(phase, entered, !(same && old.phase == Some(phase)));
    list.sort_by_key(|entry| entry.at.0);
    list
}

/// Whether a status is worth a write, and when.
///
/// A pod that gets its node and starts its container within `patience` costs
/// no write for either: the write that says `Running` says it all. Whatever
/// lasts longer, or is worth knowing at once, is written.
#[must_use]
pub fn due(
    old: Option<&VirtualMachineStatus>,
    new: VirtualMachineStatus,
    pod_age: Option<SignedDuration>,
    patience: SignedDuration,
) -> Due {
    let Some(old) = old else {
        return Due::Write(Box::new(new));
    };
    if *old == new {
        return Due::Nothing;
    }
    match pod_age {
        Some(age) if age < patience && on_the_way(old, &new) => Due::Later(patience - age),
        Some(_) | None => Due::Write(Box::new(new)),
    }
}

/// Whether both are steps of one pod on its way to run, and nothing is wrong.
fn on_the_way(old: &VirtualMachineStatus, new: &VirtualMachineStatus) -> bool {
    let way = [Phase::Scheduling, Phase::Starting];
    let on = |status: &VirtualMachineStatus| status.phase.is_some_and(|p| way.contains(&p));
    let well = |condition: &Condition| {
        let fine = [
            ConditionReason::AsExpected,
            ConditionReason::Scheduling,
            ConditionReason::Starting,
            ConditionReason::Importing,
            ConditionReason::ClaimNotBound,
            ConditionReason::WaitsForFirstConsumer,
        ];
        fine.iter()
            .any(|reason| super::facts::word(reason) == condition.reason)
    };
    on(old)
        && on(new)
        && old.incarnation == new.incarnation
        && old.observed_generation == new.observed_generation
        && old.last_termination == new.last_termination
        && new.conditions.iter().all(well)
}

#[cfg(test)]
mod tests;
