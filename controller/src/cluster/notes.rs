//! The events that an operator reads in `kubectl describe`.
//!
//! Few: one when a pod is made for the VM or taken from it, one when
//! something goes wrong. A VM that starts well costs one. They are no part of
//! the count of API writes, and losing one loses nothing: the status says the
//! same.

use coracle_api::vm::{ConditionType, Phase, VirtualMachineStatus};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};
use tracing::{debug, warn};

use super::apply::Outcome;
use super::context::{Context, VmMeta};
use super::decide::{Act, DeleteReason};
use super::status::{Sources, condition};
use super::unreadable::Unread;

/// Longest note of an event, in bytes (events.k8s.io/v1).
const NOTE_MAX: usize = 1024;

/// An event, before it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    warning: bool,
    reason: String,
    action: &'static str,
    text: String,
}

/// What there is to tell about an act.
#[must_use]
pub fn of_act(act: &Act, outcome: &Outcome) -> Option<Note> {
    let normal = |reason: &str, action, text| Note {
        warning: false,
        reason: reason.to_owned(),
        action,
        text,
    };
    match (act, outcome) {
        (Act::Create(_), Outcome::Created(pod)) => {
            let text = format!("created pod {}", pod.name);
            Some(normal("PodCreated", "Create", text))
        }
        (Act::Delete(pod, reason), Outcome::Done) => {
            let name = &pod.name;
            let (word, why) = match reason {
                DeleteReason::Halted => ("Halting", "the run policy is Halted"),
                DeleteReason::Restart => ("Restarting", "a restart was asked for"),
                DeleteReason::Stray => ("StrayPod", "a newer pod of the VM is there"),
                DeleteReason::Replaced => ("Replacing", "it has ended and the next one is due"),
            };
            Some(normal(word, "Delete", format!("deleted pod {name}: {why}")))
        }
        _ => None,
    }
}

/// What there is to tell about a status that was just written.
#[must_use]
pub fn of_status(old: Option<&VirtualMachineStatus>, new: &VirtualMachineStatus) -> Option<Note> {
    let reason = |status: &VirtualMachineStatus| {
        condition(status, ConditionType::Ready).map(|ready| ready.reason.clone())
    };
    let ended = old.and_then(|old| old.last_termination.as_ref()) != new.last_termination.as_ref();
    let changed = old.is_none_or(|old| old.phase != new.phase || reason(old) != reason(new));
    match (&new.last_termination, new.phase) {
        (Some(last), _) if ended && last.exit_code != Some(0) => Some(Note {
            warning: true,
            reason: last.reason.clone(),
            action: "Run",
            text: last.message.clone(),
        }),
        (_, Some(Phase::Pending)) if changed => {
            let ready = condition(new, ConditionType::Ready)?;
            Some(Note {
                warning: true,
                reason: ready.reason.clone(),
                action: "Start",
                text: ready.message.clone(),
            })
        }
        _ => None,
    }
}

/// Says that a VM cannot be read, and what that means for it.
pub async fn of_unreadable(ctx: &Context, vm: &VmMeta, unread: &Unread) {
    let (namespace, name, why) = (vm.namespace(), vm.name_any(), &unread.why);
    warn!(
        namespace,
        vm = name,
        why,
        "a VM cannot be read and is left as it is"
    );
    let note = Note {
        warning: true,
        reason: "Unreadable".to_owned(),
        action: "Read",
        text: format!(
            "this version of the controller cannot read the VM, and leaves it and its pod as they \
             are: {why}; upgrade the controller, or change the field"
        ),
    };
    let mut reference = vm.object_ref(&());
    reference.uid = Some(unread.uid.clone());
    send(ctx, &reference, note).await;
}

/// Publishes what there is to tell.
pub async fn publish(ctx: &Context, sources: &Sources<'_>, notes: impl IntoIterator<Item = Note>) {
    let vm = sources.seen.vm.object_ref(&());
    for note in notes {
        send(ctx, &vm, note).await;
    }
}

async fn send(ctx: &Context, vm: &ObjectReference, note: Note) {
    let mut text = note.text;
    while text.len() > NOTE_MAX {
        text.pop();
    }
    let event = Event {
        type_: if note.warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: note.reason,
        note: Some(text),
        action: note.action.to_owned(),
        secondary: None,
    };
    if let Err(error) = ctx.events.publish(&event, vm).await {
        // The namespace is going away, or the API server is: the status
        // says the same, and the next look at the VM meets the cause.
        debug!(%error, "an event was not published");
    }
}
