//! The conditions: what is true of a VM, each with a reason and a sentence.

use coracle_api::vm::{ConditionReason, ConditionType, Phase, VirtualMachineStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{Sources, changes, ready};
use crate::cluster::apply::Outcome;
use crate::cluster::decide::Stage;
use crate::cluster::facts::word;
use crate::plan::{Refusal, VmPlan};

/// A condition says at most this much, in bytes (its schema allows 32768).
const MESSAGE_MAX: usize = 4096;

/// What a condition says.
pub(super) struct Says {
    holds: bool,
    reason: String,
    message: String,
}

impl Says {
    pub(super) fn yes(message: impl Into<String>) -> Self {
        Self {
            holds: true,
            reason: word(&ConditionReason::AsExpected),
            message: message.into(),
        }
    }

    pub(super) fn no(reason: ConditionReason, message: impl Into<String>) -> Self {
        Self::because(word(&reason), message)
    }

    /// With a reason from another list: the shim's, or a claim's.
    pub(super) fn because(reason: String, message: impl Into<String>) -> Self {
        Self {
            holds: false,
            reason,
            message: message.into(),
        }
    }
}

/// One of a VM's conditions.
#[must_use]
pub fn condition(status: &VirtualMachineStatus, type_: ConditionType) -> Option<&Condition> {
    let type_ = word(&type_);
    status.conditions.iter().find(|c| c.type_ == type_)
}

/// All four, with the times of those that did not change kept.
pub(super) fn conditions(
    sources: &Sources<'_>,
    phase: Phase,
    old: &VirtualMachineStatus,
) -> Vec<Condition> {
    [
        (ConditionType::Ready, ready::ready(sources, phase)),
        (ConditionType::DisksReady, disks_ready(sources)),
        (ConditionType::Scheduled, ready::scheduled(sources)),
        (ConditionType::RestartRequired, restart_required(sources)),
    ]
    .into_iter()
    .map(|(type_, says)| {
        let status = if says.holds { "True" } else { "False" };
        let since = condition(old, type_).filter(|old| old.status == status);
        Condition {
            type_: word(&type_),
            status: status.to_owned(),
            reason: says.reason,
            message: cut(says.message),
            observed_generation: sources.seen.vm.metadata.generation,
            last_transition_time: since
                .map_or(Time(sources.now), |old| old.last_transition_time.clone()),
        }
    })
    .collect()
}

fn cut(message: String) -> String {
    if message.len() <= MESSAGE_MAX {
        return message;
    }
    let mut end = MESSAGE_MAX;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &message[..end])
}

pub(super) fn refused(refusal: &Refusal) -> Says {
    match refusal {
        Refusal::Claim { source } => {
            Says::because(source.reason().as_str().to_owned(), source.to_string())
        }
        Refusal::Invalid { .. } | Refusal::KernelClaimIsBlock { .. } => {
            Says::no(ConditionReason::InvalidSpec, refusal.to_string())
        }
    }
}

fn disks_ready(sources: &Sources<'_>) -> Says {
    let seen = sources.seen;
    let plan = match VmPlan::new(&seen.vm, 1, &seen.observed) {
        Ok(plan) => plan,
        Err(refusal) => return refused(&refusal),
    };
    let notes: Vec<String> = plan.notes().map(ToString::to_string).collect();
    if notes.is_empty() {
        Says::yes("every disk can be used")
    } else {
        Says::no(ConditionReason::ClaimNotBound, notes.join("; "))
    }
}

fn restart_required(sources: &Sources<'_>) -> Says {
    let changed = match (&sources.decision.stage, sources.outcome) {
        (Stage::Live(pod), Outcome::Done) => changes::changed(sources.seen, pod, sources.settings),
        _ => vec![],
    };
    if changed.is_empty() {
        let message = "the guest is what the spec says, or will be when it starts";
        return Says::no(ConditionReason::AsExpected, message);
    }
    Says {
        holds: true,
        reason: word(&ConditionReason::SpecChanged),
        message: format!(
            "restart the VM to apply {}: kubectl annotate --overwrite cvm {} \
             coracle.dev/restart=$(date +%s)",
            changed.join(", "),
            sources.seen.vm.metadata.name.as_deref().unwrap_or("NAME"),
        ),
    }
}
