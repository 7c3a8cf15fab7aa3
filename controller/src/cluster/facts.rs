//! What the controller reads from a pod of a VM: everything it decides on,
//! parsed once, and nothing else, so that ten thousand of them fit in memory.
//!
//! The most important question is whether a pod has provably ended. A phase
//! alone does not say so: Kubernetes sets `Failed` on pods of nodes that it
//! cannot reach, where the containers may well go on writing. It is proven
//! when the kubelet reported every container terminated, or when it refused
//! the pod before it started any.

use coracle_api::names::{
    ANNOTATION_APPLIED, ANNOTATION_DESIRED, ANNOTATION_GENERATION, ANNOTATION_RESTART, CONTAINER,
};
use coracle_api::report::TerminationMessage;
use coracle_api::vm::{ConditionReason, Termination};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod cause;
mod imports;

pub use cause::Cause;
pub use imports::{Import, ImportState};

/// Exit code of a process that was ended by SIGKILL.
const SIGKILLED: i32 = 137;

/// What is known of a VM's pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its uid; not there for a pod whose creation is under way.
    pub uid: Option<String>,
    /// Which version of the pod this is known from.
    pub version: Option<String>,
    /// Which of the VM's pods it is.
    pub incarnation: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whether its deletion was asked for.
    pub deleting: bool,
    /// Where it is.
    pub node: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// When it got its node.
    pub scheduled_at: Option<Timestamp>,
    /// What the scheduler says while it finds no node.
    pub unschedulable: Option<String>,
    /// Whether its node was given up: see [`unreachable`].
    pub unreachable: bool,
    /// Whether it may still write, as far as can be proven.
    pub life: Life,
    /// What its container does.
    pub container: Container,
    /// The disks that it fills before the guest starts.
    pub imports: Vec<Import>,
    /// How its container last ended, if it was started again since.
    pub last_crash: Option<Termination>,
    /// The annotations it carries.
    pub carried: Carried,
}

/// Whether a pod may still write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Life {
    /// It may.
    Alive,
    /// It is said to have failed, and nothing proves that its container does
    /// not run.
    Unproven,
    /// It cannot any more.
    Ended(Box<Termination>),
}

/// What the `vm` container does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Container {
    /// Nothing is known of it yet.
    Unknown,
    /// It is not running: why, in the kubelet's words.
    Waiting {
        /// One word.
        reason: String,
        /// More.
        message: String,
    },
    /// It runs.
    Running {
        /// Since when.
        since: Timestamp,
        /// Whether the shim says that the guest runs, and since when.
        ready: Option<Timestamp>,
    },
    /// It ended.
    Terminated,
}

/// What the controller wrote on a pod for itself and for the shim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// The image and the spec that the pod was made from, as JSON.
    pub applied: Option<Box<str>>,
    /// The image of its container.
    pub image: Option<Box<str>>,
    /// The wanted state.
    pub desired: String,
    /// The VM's restart annotation when the pod was made.
    pub restart: Option<String>,
    /// The generation of the spec that the pod was made from.
    pub generation: Option<i64>,
    /// The exit codes after which the container starts again in place.
    pub restart_codes: Vec<i32>,
    /// The pod's restart policy.
    pub restart_policy: String,
}

/// An enum's variant as the word that conditions carry.
pub fn word(reason: &impl std::fmt::Debug) -> String {
    format!("{reason:?}")
}

impl PodFacts {
    /// Reads a pod of the VM called `vm`; `None` when its name is not one
    /// that the VM's pods have.
    #[must_use]
    pub fn of(pod: &Pod, vm: &str) -> Option<Self> {
        let name = pod.metadata.name.clone()?;
        let incarnation = incarnation(&name, vm)?;
        let status = pod.status.clone().unwrap_or_default();
        let container = container(&status);
        Some(Self {
            incarnation,
            uid: pod.metadata.uid.clone(),
            version: pod.metadata.resource_version.clone(),
            created_at: time(pod.metadata.creation_timestamp.as_ref()),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            ip: status.pod_ip.clone().filter(|ip| !ip.is_empty()),
            scheduled_at: condition_since(&status, "PodScheduled", "True"),
            unschedulable: unschedulable(&status),
            unreachable: unreachable(&status),
            life: life(pod, &status, incarnation),
            imports: imports::of(pod, &status, incarnation),
            last_crash: last_crash(&status, incarnation),
            container,
            carried: carried(pod),
            name,
        })
    }

    /// Whether the pod has provably ended.
    #[must_use]
    pub fn termination(&self) -> Option<&Termination> {
        match &self.life {
            Life::Ended(termination) => Some(termination),
            Life::Alive | Life::Unproven => None,
        }
    }
}

/// The number in `<vm>-<number>`.
#[must_use]
pub fn incarnation(pod: &str, vm: &str) -> Option<i64> {
    let number = pod.strip_prefix(vm)?.strip_prefix('-')?;
    let plain = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
    number.parse().ok().filter(|n| plain && *n > 0)
}

fn time(at: Option<&Time>) -> Timestamp {
    at.map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

fn condition_since(status: &PodStatus, type_: &str, wanted: &str) -> Option<Timestamp> {
    let conditions = status.conditions.iter().flatten();
    conditions
        .filter(|condition| condition.type_ == type_ && condition.status == wanted)
        .find_map(|condition| Some(condition.last_transition_time.as_ref()?.0))
}

fn unschedulable(status: &PodStatus) -> Option<String> {
    let conditions = status.conditions.iter().flatten();
    conditions
        .filter(|c| c.type_ == "PodScheduled" && c.status == "False")
        .find(|c| c.reason.as_deref() == Some("Unschedulable"))
        .map(|c| c.message.clone().unwrap_or_default())
}

/// Whether the node's controller took the pod's readiness away because the
/// kubelet does not report any more. A kubelet takes that of the containers
/// away with it.
fn unreachable(status: &PodStatus) -> bool {
    condition_since(status, "Ready", "False").is_some()
        && condition_since(status, "ContainersReady", "True").is_some()
}

fn container(status: &PodStatus) -> Container {
    let Some(vm) = of_vm(status) else {
        return Container::Unknown;
    };
    let state = vm.state.clone().unwrap_or_default();
    match state {
        ContainerState {
            terminated: Some(_),
            ..
        } => Container::Terminated,
        ContainerState {
            running: Some(running),
            ..
        } => Container::Running {
            since: time(running.started_at.as_ref()),
            ready: vm.ready.then(|| {
                condition_since(status, "Ready", "True")
                    .unwrap_or_else(|| time(running.started_at.as_ref()))
            }),
        },
        ContainerState {
            waiting: Some(waiting),
            ..
        } => Container::Waiting {
            reason: waiting.reason.unwrap_or_default(),
            message: waiting.message.unwrap_or_default(),
        },
        ContainerState { .. } => Container::Unknown,
    }
}

fn of_vm(status: &PodStatus) -> Option<&ContainerStatus> {
    let mut statuses = status.container_statuses.iter().flatten();
    statuses.find(|status| status.name == CONTAINER)
}

fn life(pod: &Pod, status: &PodStatus, incarnation: i64) -> Life {
    let phase = status.phase.as_deref().unwrap_or_default();
    if phase != "Succeeded" && phase != "Failed" {
        return Life::Alive;
    }
    if collected(status) {
        return Life::Unproven;
    }
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    if statuses.is_empty() {
        return if phase == "Failed" {
            Life::Ended(Box::new(rejection(pod, status, incarnation)))
        } else {
            Life::Unproven
        };
    }
    let containers = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let terminated =
        |s: &ContainerStatus| s.state.as_ref().and_then(|state| state.terminated.clone());
    let all: Option<Vec<_>> = statuses.iter().map(terminated).collect();
    match (all, of_vm(status).and_then(terminated)) {
        (Some(all), Some(vm)) if all.len() >= containers => {
            Life::Ended(Box::new(termination(&vm, status, incarnation)))
        }
        _ => imports::end(pod, status, incarnation)
            .map_or(Life::Unproven, |ended| Life::Ended(Box::new(ended))),
    }
}

/// Whether the pod garbage collector set the phase, of a pod whose node it
/// could not ask.
fn collected(status: &PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| {
        condition.type_ == "DisruptionTarget"
            && condition.status == "True"
            && condition.reason.as_deref() == Some("DeletionByPodGC")
    })
}

/// The kubelet refused the pod before it started a container.
fn rejection(pod: &Pod, status: &PodStatus, incarnation: i64) -> Termination {
    let why = status.reason.as_deref().unwrap_or("no reason given");
    let detail = status.message.as_deref().unwrap_or_default();
    Termination {
        reason: word(&ConditionReason::PodRejected),
        message: format!("the node refused the pod ({why}): {detail}"),
        exit_code: None,
        at: Time(
            status
                .start_time
                .as_ref()
                .map_or_else(|| time(pod.metadata.creation_timestamp.as_ref()), |t| t.0),
        ),
        incarnation: Some(incarnation),
    }
}

fn last_crash(status: &PodStatus, incarnation: i64) -> Option<Termination> {
    let last = of_vm(status)?.last_state.as_ref()?.terminated.as_ref()?;
    Some(termination(last, &PodStatus::default(), incarnation))
}

fn termination(
    ended: &ContainerStateTerminated,
    status: &PodStatus,
    incarnation: i64,
) -> Termination {
    let said = ended.message.as_deref().unwrap_or_default();
    let (reason, message) = match serde_json::from_str::<TerminationMessage>(said) {
        Ok(message) => (word(&message.reason), message.message),
        Err(_) => unsaid(ended, status),
    };
    Termination {
        reason,
        message,
        exit_code: Some(ended.exit_code),
        at: Time(time(ended.finished_at.as_ref())),
        incarnation: Some(incarnation),
    }
}

/// Words for an end that the shim had no time to explain.
fn unsaid(ended: &ContainerStateTerminated, status: &PodStatus) -> (String, String) {
    let kubelet = ended.reason.as_deref().unwrap_or_default();
    let code = ended.exit_code;
    if kubelet == "OOMKilled" {
        return (
            word(&ConditionReason::OutOfMemory),
            "the container was killed because it used more memory than its limit: \
             report it, the guest's memory is no part of that margin"
                .to_owned(),
        );
    }
    if let (Some(reason), true) = (&status.reason, code == SIGKILLED) {
        let detail = status.message.as_deref().unwrap_or_default();
        return (
            word(&ConditionReason::PodRejected),
            format!("the node ended the pod ({reason}): {detail}"),
        );
    }
    let detail = ended.message.as_deref().unwrap_or_default();
    (
        word(&ConditionReason::ContainerFailed),
        format!("the container ended with exit code {code} ({kubelet}): {detail}"),
    )
}

fn carried(pod: &Pod) -> Carried {
    let annotation = |key: &str| pod.metadata.annotations.as_ref()?.get(key).cloned();
    let spec = pod.spec.as_ref();
    let vm = spec.and_then(|spec| spec.containers.iter().find(|c| c.name == CONTAINER));
    let rules = vm.and_then(|vm| vm.restart_policy_rules.as_deref());
    let codes = rules
        .unwrap_or_default()
        .iter()
        .filter_map(|rule| rule.exit_codes.as_ref()?.values.clone());
    Carried {
        applied: annotation(ANNOTATION_APPLIED).map(Into::into),
        image: vm.and_then(|vm| Some(vm.image.as_deref()?.into())),
        desired: annotation(ANNOTATION_DESIRED).unwrap_or_default(),
        restart: annotation(ANNOTATION_RESTART),
        generation: annotation(ANNOTATION_GENERATION).and_then(|text| text.parse().ok()),
        restart_codes: codes.flatten().collect(),
        restart_policy: spec
            .and_then(|spec| spec.restart_policy.clone())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
