//! One look at one VM: observe, decide, apply, report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_api::vm::VirtualMachine;
use coracle_block::claim::RefusalReason;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use tracing::info;

use super::apply::{ApplyError, Outcome, Written, apply, write_status};
use super::context::{Context, VmMeta};
use super::decide::{Act, Decision, Observation, Stage, decide};
use super::facts::word;
use super::notes;
use super::observe::{confirm, observe};
use super::status::{Due, Sources, due, status};
use crate::plan::Refusal;

/// When to look again at a VM whose world moved while it was looked at.
const MOVED: SignedDuration = SignedDuration::from_millis(200);
/// When to look again at a VM whose claim did not show the change after all.
const ASKED: SignedDuration = SignedDuration::from_secs(5);
/// When to look again at a VM whose change did not come after all.
const SUPERSEDED: Duration = Duration::from_secs(5);
/// When to look again at a VM whose pod was refused.
const REFUSED: SignedDuration = SignedDuration::from_secs(30);

/// Why a look at a VM failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The VM could not be read past the cache.
    #[error("could not read the VM and its pod")]
    Confirm {
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// Something could not be done.
    #[error(transparent)]
    Apply {
        /// What.
        #[from]
        source: ApplyError,
    },
    /// The status could not be written.
    #[error("could not write the status")]
    Status {
        /// What the API server said.
        source: Box<kube::Error>,
    },
}

/// Looks at a VM and does the next thing that it needs.
pub async fn reconcile(vm: Arc<VmMeta>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    ctx.ready().await;
    let started = Instant::now();
    let namespace = vm.namespace().unwrap_or_default();
    let found = ctx.vms.get(&namespace, &vm.name_any());
    let Some(vm) = found.map(Arc::new) else {
        // It went meanwhile, or cannot be read: nothing is done for it.
        if let Some(unread) = ctx.unreadable.tell(&namespace, &vm.name_any()) {
            notes::of_unreadable(&ctx, &vm, &unread).await;
        }
        return Ok(Action::await_change());
    };
    let key = key(&vm);
    let version = vm.metadata.resource_version.as_deref().unwrap_or_default();
    if ctx.superseded.holds(&key, version) {
        return Ok(Action::requeue(SUPERSEDED));
    }
    let looked = look(vm, &ctx, Timestamp::now()).await;
    ctx.term
        .metrics
        .reconciled(started.elapsed(), looked.is_ok());
    if looked.is_ok() {
        ctx.retries.forget(&key);
    }
    looked
}

fn key(vm: &VirtualMachine) -> (String, String) {
    (vm.namespace().unwrap_or_default(), vm.name_any())
}

async fn look(
    vm: Arc<VirtualMachine>,
    ctx: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let mut seen = observe(ctx, vm, now);
    let mut decision = decide(&seen, &ctx.term.settings, now);
    if matches!(decision.act, Act::Create(_)) {
        let confirmed = confirm(ctx, seen, now).await;
        let confirmed = confirmed.map_err(|source| ReconcileError::Confirm {
            source: Box::new(source),
        })?;
        let Some(fresh) = confirmed else {
            return Ok(Action::await_change());
        };
        decision = decide(&fresh, &ctx.term.settings, now);
        seen = fresh;
    }
    let outcome = apply(ctx, &seen, &decision.act, now).await?;
    wait_for_claims(ctx, &seen, &decision);
    let later = report(ctx, &seen, &decision, &outcome, now).await?;
    let again = [decision.recheck, later, recheck(&outcome)];
    Ok(again
        .into_iter()
        .flatten()
        .min()
        .map_or_else(Action::await_change, |after| {
            Action::requeue(after.try_into().unwrap_or_default())
        }))
}

fn recheck(outcome: &Outcome) -> Option<SignedDuration> {
    match outcome {
        Outcome::Done | Outcome::Created(_) => None,
        Outcome::Refused(_) | Outcome::ClaimRefused(_) => Some(REFUSED),
        Outcome::Moved => Some(MOVED),
        Outcome::Asked => Some(ASKED),
    }
}

/// Notes which claims must become free for the VM to go on.
fn wait_for_claims(ctx: &Context, seen: &Observation, decision: &Decision) {
    let held = match &decision.stage {
        Stage::Refused(Refusal::Claim { source }) => matches!(
            source.reason(),
            RefusalReason::ClaimInUse | RefusalReason::AccessModeForbidsSharing
        ),
        _ => false,
    };
    let claims = seen.observed.holders.keys().filter(|_| held);
    let namespace = seen.vm.namespace().unwrap_or_default();
    let claims = claims.map(String::as_str);
    ctx.waiting.set(&namespace, &seen.vm.name_any(), claims);
}

/// Writes the status if it is due, and tells what there is to tell. Returns
/// when to look again for the status' sake.
async fn report(
    ctx: &Context,
    seen: &Observation,
    decision: &Decision,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<Option<SignedDuration>, ReconcileError> {
    // Nothing is said of what changes at once: the change brings the VM back.
    if matches!(outcome, Outcome::Moved | Outcome::Asked) {
        return Ok(None);
    }
    let sources = Sources {
        seen,
        decision,
        outcome,
        settings: &ctx.term.settings,
        now,
    };
    let of_act = notes::of_act(&decision.act, outcome);
    let Some(new) = status(&sources) else {
        return Ok(None);
    };
    let old = seen.vm.status.as_ref();
    let age = sources
        .pod()
        .map(|pod| now.duration_since(pod.created_at).max(SignedDuration::ZERO));
    let patience = SignedDuration::try_from(ctx.term.patience).unwrap_or_default();
    let (later, of_status) = match due(old, new, age, patience) {
        Due::Nothing => (None, None),
        Due::Later(after) => (Some(after), None),
        Due::Write(new) => {
            let written = write_status(ctx, &seen.vm, &new).await;
            let written = written.map_err(|source| ReconcileError::Status {
                source: Box::new(source),
            })?;
            match written {
                Written::As(version) => {
                    let old_version = seen.vm.metadata.resource_version.as_deref();
                    let old_version = old_version.unwrap_or_default();
                    ctx.superseded
                        .replaced(key(&seen.vm), old_version, &version);
                    log(&seen.vm, &new);
                    ctx.term.metrics.entered(old, &new);
                    (None, notes::of_status(old, &new))
                }
                Written::Conflict => (Some(MOVED), None),
                Written::Gone => (None, None),
            }
        }
    };
    notes::publish(ctx, &sources, of_act.into_iter().chain(of_status)).await;
    Ok(later)
}

fn log(vm: &VirtualMachine, new: &coracle_api::vm::VirtualMachineStatus) {
    let old = vm.status.as_ref().and_then(|status| status.phase);
    if old != new.phase {
        let phase = new.phase.map(|phase| word(&phase)).unwrap_or_default();
        let pod = new.pod_name.as_deref().unwrap_or_default();
        info!(
            namespace = vm.namespace(),
            vm = vm.name_any(),
            phase,
            pod,
            "phase changed"
        );
    }
}
