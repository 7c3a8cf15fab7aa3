//! The conditions: what is true of a VM, each with a reason and a sentence.

use coracle_api::vm::{ConditionReason, ConditionType, Phase, VirtualMachineStatus};
use coracle_block::claim::ClaimNote;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::changes::Changes;
use super::{Sources, changes, imports, ready};
use crate::cluster::apply::Outcome;
use crate::cluster::decide::Stage;
use crate::cluster::facts::word;
use crate::plan::{Refusal, VmPlan};
use crate::template::{self, Sized};

/// A condition says at most this much, in bytes (its schema allows 32768).
const MESSAGE_MAX: usize = 4096;

/// What a condition says.
pub(super) struct Says {
    /// `True`, `False` or `Unknown`.
    status: &'static str,
    reason: String,
    message: String,
}

impl Says {
    pub(super) fn yes(message: impl Into<String>) -> Self {
        Self {
            status: "True",
            reason: word(&ConditionReason::AsExpected),
            message: message.into(),
        }
    }

    pub(super) fn no(reason: ConditionReason, message: impl Into<String>) -> Self {
        Self::because(word(&reason), message)
    }

    /// Nobody can tell.
    pub(super) fn unknown(reason: ConditionReason, message: impl Into<String>) -> Self {
        Self {
            status: "Unknown",
            ..Self::no(reason, message)
        }
    }

    /// With a reason from another list: the shim's, or a claim's.
    pub(super) fn because(reason: String, message: impl Into<String>) -> Self {
        Self {
            status: "False",
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

/// All of them, with the times of those that did not change kept.
pub(super) fn conditions(
    sources: &Sources<'_>,
    phase: Phase,
    old: &VirtualMachineStatus,
) -> Vec<Condition> {
    let always = [
        (ConditionType::Ready, ready::ready(sources, phase)),
        (ConditionType::DisksReady, disks_ready(sources)),
        (ConditionType::Scheduled, ready::scheduled(sources)),
        (ConditionType::RestartRequired, restart_required(sources)),
    ];
    let sized = disks_sized(sources).map(|says| (ConditionType::DisksSized, says));
    always
        .into_iter()
        .chain(sized)
        .map(|(type_, says)| {
            let since = condition(old, type_).filter(|old| old.status == says.status);
            Condition {
                type_: word(&type_),
                status: says.status.to_owned(),
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
    if let (Outcome::ClaimRefused(refusal), Stage::Refused(_)) =
        (sources.outcome, &sources.decision.stage)
    {
        return Says::no(refusal.reason, refusal.message.clone());
    }
    let plan = match VmPlan::new(&seen.vm, 1, &seen.observed) {
        Ok(plan) => plan,
        Err(refusal) => return refused(&refusal),
    };
    // Before it has a node, the pod may still wait for its claims.
    let alive = sources
        .pod()
        .filter(|pod| pod.termination().is_none() && pod.node.is_some());
    if let Some(says) = alive.and_then(imports::says) {
        return says;
    }
    let notes: Vec<&ClaimNote> = plan.notes().collect();
    let Some(reason) = notes
        .iter()
        .map(|note| reason(note))
        .max_by_key(|r| weight(*r))
    else {
        return Says::yes("every disk can be used");
    };
    let texts: Vec<String> = notes.iter().map(ToString::to_string).collect();
    Says::no(reason, texts.join("; "))
}

fn reason(note: &ClaimNote) -> ConditionReason {
    match note {
        ClaimNote::WaitsForFirstConsumer { .. } => ConditionReason::WaitsForFirstConsumer,
        ClaimNote::ClassMissing { .. } => ConditionReason::StorageClassNotFound,
        ClaimNote::Provisioning { .. }
        | ClaimNote::NeedsStaticVolume { .. }
        | ClaimNote::NotBoundYet { .. } => ConditionReason::ClaimNotBound,
    }
}

/// Of several reasons, the one that somebody must do something about.
fn weight(reason: ConditionReason) -> u8 {
    match reason {
        ConditionReason::StorageClassNotFound => 2,
        ConditionReason::ClaimNotBound => 1,
        _ => 0,
    }
}

/// Whether the claims of templates are as large as those say; `None` when
/// there are no templates.
fn disks_sized(sources: &Sources<'_>) -> Option<Says> {
    let seen = sources.seen;
    let mut disks = seen.vm.spec.disks.iter();
    disks.find(|disk| disk.claim_template.is_some())?;
    if let (Outcome::ClaimRefused(refusal), false) = (
        sources.outcome,
        matches!(sources.decision.stage, Stage::Refused(_)),
    ) {
        return Some(Says::no(refusal.reason, refusal.message.clone()));
    }
    let (mut growing, mut forbidden) = (vec![], vec![]);
    for (disk, sized) in template::sizes(&seen.vm, &seen.observed) {
        match sized {
            Sized::Fits => {}
            Sized::Growing(why) => growing.push(format!("disk {disk:?}: {why}")),
            Sized::Forbidden(why) => forbidden.push(format!("disk {disk:?}: {why}")),
        }
    }
    Some(match (&forbidden[..], &growing[..]) {
        ([], []) => Says::yes("every claim is as large as its template"),
        ([], growing) => Says::no(ConditionReason::Expanding, growing.join("; ")),
        (forbidden, _) => Says::no(ConditionReason::ExpansionForbidden, forbidden.join("; ")),
    })
}

fn restart_required(sources: &Sources<'_>) -> Says {
    let changed = match (&sources.decision.stage, sources.outcome) {
        (Stage::Live(pod), Outcome::Done) => changes::changed(sources.seen, pod, sources.settings),
        _ => Changes::default(),
    };
    if changed == Changes::default() {
        let message = "the guest is what the spec says, or will be when it starts";
        return Says::no(ConditionReason::AsExpected, message);
    }
    let mut apply = changed.fields.clone();
    apply.extend(changed.image.map(|old| {
        let new = &sources.settings.image;
        format!("the image {new} (it runs {old})")
    }));
    let reason = if changed.fields.is_empty() {
        ConditionReason::ImageChanged
    } else {
        ConditionReason::SpecChanged
    };
    Says {
        status: "True",
        reason: word(&reason),
        message: format!(
            "restart the VM to apply {}: kubectl annotate --overwrite cvm {} \
             coracle.dev/restart=$(date +%s)",
            apply.join(", "),
            sources.seen.vm.metadata.name.as_deref().unwrap_or("NAME"),
        ),
    }
}
