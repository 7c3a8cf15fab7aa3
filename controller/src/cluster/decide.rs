//! What to do about a VM: a pure function of what was observed.
//!
//! ```text
//!  no pod ──create──▶ live ──ends──▶ ended ──delete, after a pause──▶ no pod
//!                      │ halt, restart: delete                          ▲
//!                      └────────▶ leaving ──────────object gone─────────┘
//! ```
//!
//! Guarantee: a pod is created only when every pod that the VM has had has
//! provably ended or is gone. What "gone" means is asked of the API server
//! itself, and not of a cache, before a pod is created: see `observe`.

use std::sync::Arc;

use coracle_api::vm::{ConditionReason, RunPolicy, Termination, VirtualMachine};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::facts::{Cause, Life, PodFacts, word};
use crate::plan::{Observed, Refusal};
use crate::template::{self, ClaimAct};
use crate::{Settings, pod};

mod imports;

/// A refusal for which no event may come is looked at again after this long.
const RECHECK: SignedDuration = SignedDuration::from_secs(30);
/// When to look again once the status has been written.
const SOON: SignedDuration = SignedDuration::from_millis(200);
/// The first pause before a VM that failed starts again; it doubles.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// The same after a node refused the pod. It may have started a moment ago and
/// not have its devices yet (`UnexpectedAdmissionError`), or have filled up
/// since the scheduler looked; nothing of the guest ran.
const FIRST_PAUSE_REJECTED: SignedDuration = SignedDuration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(300);
/// A pod that lived this long was no failed start: pauses begin anew.
const LIVED: SignedDuration = SignedDuration::from_mins(10);

/// Everything that is known of a VM.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The object.
    pub vm: Arc<VirtualMachine>,
    /// The pods it owns.
    pub pods: Vec<Arc<PodFacts>>,
    /// What it names.
    pub observed: Observed,
}

/// What to do, and how things stand.
#[derive(Debug)]
pub struct Decision {
    /// What to do now.
    pub act: Act,
    /// How things stand once that is done.
    pub stage: Stage,
    /// When to look again although nothing happened.
    pub recheck: Option<SignedDuration>,
}

/// One thing to do.
#[derive(Debug)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// Create this pod.
    Create(Box<Pod>),
    /// Delete this pod, with its grace period.
    Delete(Arc<PodFacts>, DeleteReason),
    /// Tell the pod's shim what state is wanted.
    SetDesired(Arc<PodFacts>, &'static str),
    /// Make or change the claims of the VM's templates.
    Claims(Vec<ClaimAct>),
}

/// Why a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteReason {
    /// The run policy is `Halted`.
    Halted,
    /// The restart annotation asks for it.
    Restart,
    /// It has ended and the next one takes its place.
    Replaced,
    /// A newer pod of the VM is there.
    Stray,
}

/// How things stand.
#[derive(Debug)]
pub enum Stage {
    /// The VM is being deleted; the garbage collector takes its pod.
    Deleting,
    /// No pod, and none is wanted.
    Halted,
    /// There can be no pod.
    Refused(Refusal),
    /// A pod is created now.
    Creating,
    /// There is a pod.
    Live(Arc<PodFacts>),
    /// A pod is on its way out, and nothing can be done until it has ended.
    Leaving(Arc<PodFacts>),
    /// The VM ended; it starts again then, or not at all.
    Over {
        /// How it ended.
        termination: Box<Termination>,
        /// When it starts again.
        again: Option<Timestamp>,
        /// The pod that ended, while its object is there.
        pod: Option<Arc<PodFacts>>,
    },
}

impl Decision {
    fn rest(stage: Stage) -> Self {
        Self {
            act: Act::Nothing,
            stage,
            recheck: None,
        }
    }

    fn act(act: Act, stage: Stage) -> Self {
        Self {
            act,
            stage,
            recheck: None,
        }
    }

    fn recheck(self, after: SignedDuration) -> Self {
        Self {
            recheck: Some(after),
            ..self
        }
    }
}

/// What to do about a VM.
#[must_use]
pub fn decide(o: &Observation, settings: &Settings, now: Timestamp) -> Decision {
    if o.vm.metadata.deletion_timestamp.is_some() {
        return Decision::rest(Stage::Deleting);
    }
    let decision = of_pods(o, settings, now);
    // A pod that is given up may be the only witness. One that lives is not
    // yet: it is told to stop first, and is there while it does.
    let stops = matches!(
        decision.act,
        Act::Delete(_, DeleteReason::Halted | DeleteReason::Restart)
    );
    let filled = imports::notes(o);
    if !stops && !filled.is_empty() {
        return Decision {
            act: Act::Claims(filled),
            ..decision
        };
    }
    if !matches!(decision.act, Act::Nothing) {
        return decision;
    }
    match template::due(&o.vm, &o.observed) {
        due if due.is_empty() => decision,
        due => Decision {
            act: Act::Claims(due),
            ..decision
        },
    }
}

fn of_pods(o: &Observation, settings: &Settings, now: Timestamp) -> Decision {
    let Some(current) = o.pods.iter().max_by_key(|pod| pod.incarnation) else {
        return without_pod(o, settings, now);
    };
    let mut earlier = o
        .pods
        .iter()
        .filter(|pod| pod.incarnation != current.incarnation && pod.termination().is_none());
    match earlier.next() {
        Some(stray) if !stray.deleting => Decision::act(
            Act::Delete(stray.clone(), DeleteReason::Stray),
            Stage::Live(current.clone()),
        ),
        // Nothing may be created beside it, whatever the current pod does.
        Some(stray) if current.termination().is_some() => leaving(stray),
        Some(_) | None => with_pod(o, current, settings, now),
    }
}

fn with_pod(o: &Observation, pod: &Arc<PodFacts>, settings: &Settings, now: Timestamp) -> Decision {
    let halted = o.vm.spec.run_policy == RunPolicy::Halted;
    match (&pod.life, pod.deleting) {
        (Life::Alive | Life::Unproven, true) | (Life::Unproven, false) => leaving(pod),
        (Life::Alive, false) if halted => delete(pod, DeleteReason::Halted),
        (Life::Alive, false) if restart_wanted(&o.vm, pod.carried.restart.as_deref()) => {
            delete(pod, DeleteReason::Restart)
        }
        (Life::Alive, false) => {
            let desired = pod::desired(&o.vm);
            let act = if pod.carried.desired == desired {
                Act::Nothing
            } else {
                Act::SetDesired(pod.clone(), desired)
            };
            Decision::act(act, Stage::Live(pod.clone()))
        }
        (Life::Ended(_), true) if halted => Decision::rest(Stage::Halted),
        (Life::Ended(_), false) if halted => Decision::act(
            Act::Delete(pod.clone(), DeleteReason::Halted),
            Stage::Halted,
        ),
        (Life::Ended(termination), _) => next(o, termination, Some(pod), settings, now),
    }
}

fn without_pod(o: &Observation, settings: &Settings, now: Timestamp) -> Decision {
    if o.vm.spec.run_policy == RunPolicy::Halted {
        return Decision::rest(Stage::Halted);
    }
    let status = o.vm.status.clone().unwrap_or_default();
    if status.pod_name.is_none() {
        return create(o, settings);
    }
    let ended = status
        .last_termination
        .filter(|last| last.incarnation == status.incarnation);
    let termination = ended.unwrap_or_else(|| lost(o, now));
    next(o, &termination, None, settings, now)
}

/// What is said of a pod that is gone without a word.
fn lost(o: &Observation, now: Timestamp) -> Termination {
    let status = o.vm.status.clone().unwrap_or_default();
    Termination {
        reason: word(&ConditionReason::PodLost),
        message: format!(
            "pod {:?} was deleted before the VM ended",
            status.pod_name.unwrap_or_default()
        ),
        exit_code: None,
        at: Time(now),
        incarnation: status.incarnation,
    }
}

fn next(
    o: &Observation,
    termination: &Termination,
    pod: Option<&Arc<PodFacts>>,
    settings: &Settings,
    now: Timestamp,
) -> Decision {
    let over = |again| {
        Decision::rest(Stage::Over {
            termination: Box::new(termination.clone()),
            again,
            pod: pod.cloned(),
        })
    };
    match again(o, termination, pod) {
        Again::Never => over(None),
        Again::At(at) if at > now => over(Some(at)).recheck(at.duration_since(now)),
        // The pod is the only witness until the status has its account.
        Again::At(_) | Again::Now if pod.is_some() && !recorded(o, termination) => {
            over(Some(now)).recheck(SOON)
        }
        Again::At(_) | Again::Now => match pod {
            Some(pod) if !pod.deleting => Decision {
                act: Act::Delete(pod.clone(), DeleteReason::Replaced),
                ..over(Some(now))
            },
            Some(_) | None => create(o, settings),
        },
    }
}

/// When a VM that ended starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// At once.
    Now,
    /// Not before then.
    At(Timestamp),
    /// Not until somebody asks for it.
    Never,
}

fn again(o: &Observation, termination: &Termination, pod: Option<&Arc<PodFacts>>) -> Again {
    let status = o.vm.status.as_ref();
    let served = match pod {
        Some(pod) => pod.carried.restart.as_deref(),
        None => status.and_then(|status| status.served_restart.as_deref()),
    };
    if restart_wanted(&o.vm, served) {
        return Again::Now;
    }
    let mended = pod.is_none_or(|pod| {
        pod.carried.generation != o.vm.metadata.generation || imports::counts_as_filled(o, pod)
    });
    let later = || {
        let failures = failures(o, termination, pod);
        let first = match Cause::of(termination) {
            Cause::Rejected => FIRST_PAUSE_REJECTED,
            _ => FIRST_PAUSE,
        };
        Again::At(termination.at.0 + pause(first, failures))
    };
    match (Cause::of(termination), o.vm.spec.run_policy) {
        // Whoever deletes the pod of a wrong manifest wants to see it again.
        (Cause::Config, policy) if mended && policy != RunPolicy::Halted => Again::Now,
        (Cause::Rejected, _) => later(),
        (Cause::Config, _)
        | (_, RunPolicy::Halted | RunPolicy::Once)
        | (Cause::GuestOff, RunPolicy::OnFailure) => Again::Never,
        (Cause::Asked | Cause::GuestOff, _) => Again::Now,
        (Cause::Crash | Cause::Host, _) => later(),
    }
}

/// Whether the VM's status tells of this end.
fn recorded(o: &Observation, termination: &Termination) -> bool {
    let status = o.vm.status.as_ref();
    let last = status.and_then(|status| status.last_termination.as_ref());
    last.is_some_and(|last| {
        (last.incarnation, &last.at) == (termination.incarnation, &termination.at)
    })
}

/// How many pods in a row ended soon after they started, with this one.
#[must_use]
pub fn failures(o: &Observation, termination: &Termination, pod: Option<&Arc<PodFacts>>) -> u32 {
    let status = o.vm.status.as_ref();
    let counted = status.and_then(|status| status.failures).unwrap_or(0);
    let known = recorded(o, termination);
    match Cause::of(termination) {
        Cause::Asked | Cause::GuestOff => 0,
        _ if known && counted > 0 => counted,
        _ => match pod {
            Some(pod) if termination.at.0.duration_since(pod.created_at) >= LIVED => 1,
            Some(_) | None => counted.saturating_add(1),
        },
    }
}

fn pause(first: SignedDuration, failures: u32) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}

fn restart_wanted(vm: &VirtualMachine, served: Option<&str>) -> bool {
    pod::restart(vm).is_some_and(|wanted| served != Some(wanted))
}

fn create(o: &Observation, settings: &Settings) -> Decision {
    let incarnation = u64::try_from(last_incarnation(o) + 1).unwrap_or(1);
    match crate::pod(&o.vm, incarnation, &o.observed, settings) {
        Ok(pod) => Decision::act(Act::Create(Box::new(pod)), Stage::Creating),
        Err(refusal) => Decision::rest(Stage::Refused(refusal)).recheck(RECHECK),
    }
}

fn last_incarnation(o: &Observation) -> i64 {
    let known = o.vm.status.as_ref().and_then(|status| status.incarnation);
    let seen = o.pods.iter().map(|pod| pod.incarnation);
    seen.chain(known).max().unwrap_or(0)
}

fn delete(pod: &Arc<PodFacts>, reason: DeleteReason) -> Decision {
    Decision::act(
        Act::Delete(pod.clone(), reason),
        Stage::Leaving(pod.clone()),
    )
    .recheck(RECHECK)
}

fn leaving(pod: &Arc<PodFacts>) -> Decision {
    // Looked at again, because time alone makes its condition say more.
    Decision::rest(Stage::Leaving(pod.clone())).recheck(RECHECK)
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
