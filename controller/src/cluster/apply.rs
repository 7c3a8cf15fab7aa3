//! Doing what was decided. Nothing here decides; every write is counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::names::{ANNOTATION_DESIRED, GROUP, VERSION};
use coracle_api::vm::{ConditionReason, VirtualMachine, VirtualMachineStatus};
use coracle_block::claim::Holder;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::context::{Context, MANAGER};
use super::decide::{Act, Observation};
use super::facts::PodFacts;
use super::index::owner;
use super::observe::owner_of;
use super::refusal::PodRefusal;

mod claims;
mod images;

pub use images::keeps_image_volumes;

/// A request to create a pod that took longer is given up, and looked at
/// again: it must not reach the API server after another controller has moved
/// on to the VM's next pod.
const CREATE_DEADLINE: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The pod is there now, made by us or by an earlier leader.
    Created(Arc<PodFacts>),
    /// The API server will not have the pod.
    Refused(PodRefusal),
    /// The API server will not have a claim, or its change.
    ClaimRefused(PodRefusal),
    /// Claims were made or changed: their watch will show it.
    Asked,
    /// Something changed meanwhile: look again at once.
    Moved,
}

/// Does what was decided.
///
/// # Errors
/// What the API server answers, unless it is part of the outcome.
pub async fn apply(
    ctx: &Context,
    seen: &Observation,
    act: &Act,
    now: Timestamp,
) -> Result<Outcome, ApplyError> {
    let namespace = seen.vm.namespace().unwrap_or_default();
    match act {
        Act::Nothing => Ok(Outcome::Done),
        Act::Create(pod) => create(ctx, seen, pod, &namespace, now).await,
        Act::Delete(pod, _) => delete(ctx, pod, &namespace).await,
        Act::SetDesired(pod, desired) => set_desired(ctx, pod, desired, &namespace).await,
        Act::Claims(acts) => claims::apply(ctx, acts, &namespace).await,
    }
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused, or could not be reached.
    #[error("could not {verb} {what} {name:?}")]
    Api {
        /// What was asked for.
        verb: &'static str,
        /// Of what: a pod or a claim.
        what: &'static str,
        /// Which.
        name: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// This replica may have lost the lease without knowing.
    #[error("pod {pod:?} is not created: this replica's lease has run out")]
    NotLeading {
        /// Which pod.
        pod: String,
    },
    /// It did not answer.
    #[error("no answer within {} s to the creation of pod {pod:?}", CREATE_DEADLINE.as_secs())]
    NoAnswer {
        /// Which pod.
        pod: String,
    },
}

fn failed(
    verb: &'static str,
    what: &'static str,
    name: &str,
) -> impl FnOnce(kube::Error) -> ApplyError {
    let name = name.to_owned();
    move |source| ApplyError::Api {
        verb,
        what,
        name,
        source: Box::new(source),
    }
}

async fn create(
    ctx: &Context,
    seen: &Observation,
    pod: &Pod,
    namespace: &str,
    now: Timestamp,
) -> Result<Outcome, ApplyError> {
    let name = pod.name_any();
    let holders: HashMap<String, Vec<Holder>> = seen
        .observed
        .holders
        .iter()
        .map(|(claim, holders)| (claim.clone(), holders.clone()))
        .collect();
    let api = ctx.pods_in(namespace);
    if !asks_for_images(&api, pod).await? {
        return Ok(Outcome::Refused(PodRefusal::no_image_volumes()));
    }
    // From here on it is sure to be in time, or given up.
    if !ctx.term.tenure.holds() {
        return Err(ApplyError::NotLeading { pod: name });
    }
    if ctx.pods.reserve(pod, &holders, now).is_err() {
        return Ok(Outcome::Moved);
    }
    ctx.term.metrics.wrote("create", "pods");
    let params = PostParams::default();
    let answer = tokio::time::timeout(CREATE_DEADLINE, api.create(&params, pod)).await;
    match answer {
        Ok(Ok(created)) => Ok(made(ctx, seen, &created, now)),
        Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => {
            taken(ctx, seen, &name, namespace, now).await
        }
        Ok(Err(kube::Error::Api(status))) => {
            ctx.pods.give_up(namespace, &name);
            match PodRefusal::of(&status, namespace) {
                Some(refusal) => Ok(Outcome::Refused(refusal)),
                None => Err(failed("create", "pod", &name)(kube::Error::Api(status))),
            }
        }
        // It may have been created all the same, so the reservation stays
        // until the watch or its own age ends it.
        Ok(Err(error)) => Err(failed("create", "pod", &name)(error)),
        Err(_) => Err(ApplyError::NoAnswer { pod: name }),
    }
}

/// Whether the pod would be made with its image volumes.
async fn asks_for_images(api: &Api<Pod>, pod: &Pod) -> Result<bool, ApplyError> {
    let answer = tokio::time::timeout(CREATE_DEADLINE, keeps_image_volumes(api, pod)).await;
    let name = pod.name_any();
    match answer {
        Ok(answer) => answer.map_err(failed("create", "pod", &name)),
        Err(_) => Err(ApplyError::NoAnswer { pod: name }),
    }
}

fn made(ctx: &Context, seen: &Observation, pod: &Pod, now: Timestamp) -> Outcome {
    ctx.pods.created(pod, now);
    PodFacts::of(pod, &seen.vm.name_any())
        .map_or(Outcome::Moved, |facts| Outcome::Created(Arc::new(facts)))
}

/// The name is taken: by a pod of this very VM, made by an earlier leader or
/// by a request whose answer was lost, or by somebody else's.
async fn taken(
    ctx: &Context,
    seen: &Observation,
    name: &str,
    namespace: &str,
    now: Timestamp,
) -> Result<Outcome, ApplyError> {
    let found = ctx.pods_in(namespace).get_opt(name).await;
    let Some(found) = found.map_err(failed("read", "pod", name))? else {
        ctx.pods.give_up(namespace, name);
        return Ok(Outcome::Moved);
    };
    if owner(&found).as_ref() == Some(&owner_of(&seen.vm)) {
        return Ok(made(ctx, seen, &found, now));
    }
    ctx.pods.give_up(namespace, name);
    let whose = match owner(&found) {
        Some(earlier) if earlier.vm == seen.vm.name_any() => {
            "it belongs to an earlier VM of this name, and the VM starts once it is gone".to_owned()
        }
        Some(other) => format!("it belongs to VM {:?}: rename one of the two VMs", other.vm),
        None => format!("it is not the VM's: delete it (kubectl -n {namespace} delete pod {name})"),
    };
    Ok(Outcome::Refused(PodRefusal {
        reason: ConditionReason::PodNameTaken,
        message: format!("a pod called {name:?} is there already; {whose}"),
    }))
}

/// Asks for the deletion of that very pod, with its own grace period, if it is
/// still as it was judged. A pod that got a final phase meanwhile would lose
/// its object at once, and with it the sign that its guest may yet run.
async fn delete(ctx: &Context, pod: &PodFacts, namespace: &str) -> Result<Outcome, ApplyError> {
    ctx.term.metrics.wrote("delete", "pods");
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: pod.uid.clone(),
            resource_version: pod.version.clone(),
        }),
        ..DeleteParams::default()
    };
    match ctx.pods_in(namespace).delete(&pod.name, &params).await {
        Ok(_) => Ok(Outcome::Done),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Outcome::Done),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Outcome::Moved),
        Err(error) => Err(failed("delete", "pod", &pod.name)(error)),
    }
}

async fn set_desired(
    ctx: &Context,
    pod: &PodFacts,
    desired: &str,
    namespace: &str,
) -> Result<Outcome, ApplyError> {
    ctx.term.metrics.wrote("patch", "pods");
    let patch = json!({"metadata": {
        "uid": pod.uid,
        "annotations": {ANNOTATION_DESIRED: desired}
    }});
    let api = ctx.pods_in(namespace);
    let params = PatchParams {
        field_manager: Some(MANAGER.into()),
        ..PatchParams::default()
    };
    match api.patch(&pod.name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(Outcome::Done),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
            Ok(Outcome::Done)
        }
        Err(error) => Err(failed("patch", "pod", &pod.name)(error)),
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The VM has this version now.
    As(String),
    /// The VM has changed since it was read.
    Conflict,
    /// The VM is no more.
    Gone,
}

/// Writes a VM's status, whole, if the VM is as it was read: a status made
/// from an old one must not go back in time, or the number of the VM's next
/// pod would.
///
/// # Errors
/// What the API server answers, unless it is part of the outcome.
pub async fn write_status(
    ctx: &Context,
    vm: &VirtualMachine,
    status: &VirtualMachineStatus,
) -> Result<Written, kube::Error> {
    ctx.term.metrics.wrote("patch", "virtualmachines/status");
    let name = vm.name_any();
    let patch = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "VirtualMachine",
        "metadata": {
            "name": name,
            "uid": vm.metadata.uid,
            "resourceVersion": vm.metadata.resource_version,
        },
        "status": status,
    });
    let api = ctx.vms_in(&vm.namespace().unwrap_or_default());
    let params = PatchParams::apply(MANAGER).force();
    match api
        .patch_status(&name, &params, &Patch::Apply(&patch))
        .await
    {
        Ok(vm) => Ok(Written::As(
            vm.metadata.resource_version.unwrap_or_default(),
        )),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Written::Conflict),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Written::Gone),
        Err(error) => Err(error),
    }
}
