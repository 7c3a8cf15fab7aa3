//! What a VM's pod shows of the disks that are filled before its guest starts.

use coracle_api::names::{ANNOTATION_APPLIED, IMPORT_CONTAINER};
use coracle_api::vm::{ConditionReason, Termination};
use coracle_block::claim::volume_name;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};
use serde::{Deserialize, Serialize};

use super::{of_vm, termination, word};
use crate::applied::Applied;

/// A disk that the pod fills.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Import {
    /// The disk.
    pub disk: String,
    /// Its claim.
    pub claim: String,
    /// What it is filled with, for people.
    pub from: String,
    /// How far it is.
    pub state: ImportState,
}

/// How far a disk is filled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ImportState {
    /// The importer does not run: why, in the kubelet's words.
    Waiting {
        /// One word.
        reason: String,
        /// More.
        message: String,
        /// The importer's image.
        image: String,
    },
    /// It runs.
    Running,
    /// It ended well.
    Done,
    /// It failed; the node may try again.
    Failed(Box<Termination>),
}

/// The disks that a pod fills, in their order.
pub(super) fn of(pod: &Pod, status: &PodStatus, incarnation: i64) -> Vec<Import> {
    let spec = pod.spec.as_ref();
    let containers = spec.and_then(|spec| spec.init_containers.as_deref());
    let containers = containers.unwrap_or_default().iter();
    let ours = containers.filter_map(|container| {
        let disk = container.name.strip_prefix(IMPORT_CONTAINER)?;
        Some((container, disk))
    });
    let mut ours = ours.peekable();
    if ours.peek().is_none() {
        return vec![];
    }
    let annotations = pod.metadata.annotations.as_ref();
    let applied = annotations.and_then(|all| Applied::from_json(all.get(ANNOTATION_APPLIED)?));
    let from = |disk: &str| {
        let mut disks = applied.as_ref()?.spec.disks.iter();
        Some(disks.find(|d| d.name == disk)?.from()?.to_string())
    };
    ours.filter_map(|(container, disk)| {
        let volume = volume_name(disk);
        let mut volumes = spec?.volumes.as_deref().unwrap_or_default().iter();
        let claim = volumes.find(|v| v.name == volume)?;
        let mut statuses = status.init_container_statuses.iter().flatten();
        let found = statuses.find(|status| status.name == container.name);
        let image = container.image.as_deref().unwrap_or_default();
        Some(Import {
            disk: disk.to_owned(),
            claim: claim.persistent_volume_claim.as_ref()?.claim_name.clone(),
            from: from(disk).unwrap_or_default(),
            state: state(pod, found, status, incarnation, image),
        })
    })
    .collect()
}

fn state(
    pod: &Pod,
    found: Option<&ContainerStatus>,
    status: &PodStatus,
    incarnation: i64,
    image: &str,
) -> ImportState {
    let now = found.and_then(|found| found.state.clone());
    let last = found.and_then(|found| found.last_state.clone()?.terminated);
    match now.unwrap_or_default() {
        ContainerState {
            terminated: Some(ended),
            ..
        } if ended.exit_code == 0 => ImportState::Done,
        ContainerState {
            terminated: Some(ended),
            ..
        } => {
            let ended = termination(&ended, status, incarnation);
            ImportState::Failed(Box::new(asked(pod, ended)))
        }
        ContainerState {
            running: Some(_), ..
        } => ImportState::Running,
        ContainerState { waiting, .. } => match (last, waiting) {
            // The kubelet waits before the next attempt.
            (Some(ended), _) if ended.exit_code != 0 => {
                ImportState::Failed(Box::new(termination(&ended, status, incarnation)))
            }
            (_, waiting) => {
                let waiting = waiting.unwrap_or_default();
                ImportState::Waiting {
                    reason: waiting.reason.unwrap_or_default(),
                    message: waiting.message.unwrap_or_default(),
                    image: image.to_owned(),
                }
            }
        },
    }
}

/// An importer that ended because its pod was deleted did not fail.
fn asked(pod: &Pod, ended: Termination) -> Termination {
    let by_signal = matches!(ended.exit_code, Some(137 | 143));
    if pod.metadata.deletion_timestamp.is_none() || !by_signal {
        return ended;
    }
    Termination {
        reason: word(&ConditionReason::PodLost),
        message: "the pod was deleted while a disk of the VM was filled".to_owned(),
        ..ended
    }
}

/// How a pod ended whose guest never started: an importer failed, and the
/// kubelet says that nothing of the pod runs.
pub(super) fn end(pod: &Pod, status: &PodStatus, incarnation: i64) -> Option<Termination> {
    let statuses = status.init_container_statuses.as_deref()?;
    let runs = |status: &ContainerStatus| {
        let state = status.state.as_ref();
        state.is_some_and(|state| state.running.is_some())
    };
    let started = |status: &ContainerStatus| {
        status
            .last_state
            .as_ref()
            .is_some_and(|s| s.terminated.is_some())
            || status
                .container_id
                .as_deref()
                .is_some_and(|id| !id.is_empty())
            || status.state.as_ref().is_some_and(|s| s.waiting.is_none())
    };
    if statuses.iter().any(runs) || of_vm(status).is_some_and(started) {
        return None;
    }
    of(pod, status, incarnation)
        .into_iter()
        .find_map(|import| match import.state {
            ImportState::Failed(ended) => Some(*ended),
            ImportState::Waiting { .. } | ImportState::Running | ImportState::Done => None,
        })
}
