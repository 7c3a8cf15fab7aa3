//! The conditions `Ready` and `Scheduled`: what keeps a guest from running.

use coracle_api::vm::{ConditionReason, Phase, Termination, VirtualMachineSpec};

use super::conditions::{Says, refused};
use super::node::waits_for_node;
use super::{Sources, imports};
use crate::cluster::apply::Outcome;
use crate::cluster::decide::Stage;
use crate::cluster::facts::{Container, PodFacts};

/// Whether the guest runs.
pub(super) fn ready(sources: &Sources<'_>, phase: Phase) -> Says {
    match (sources.outcome, &sources.decision.stage) {
        (Outcome::Refused(refusal), _) => Says::no(refusal.reason, refusal.message.clone()),
        (Outcome::Created(pod), _) | (_, Stage::Live(pod)) => {
            live(pod, phase, &sources.seen.vm.spec)
        }
        (Outcome::ClaimRefused(refusal), Stage::Refused(_)) => {
            Says::no(refusal.reason, refusal.message.clone())
        }
        (_, Stage::Refused(refusal)) => refused(refusal),
        (_, Stage::Halted) => Says::no(ConditionReason::Halted, "spec.runPolicy is Halted"),
        (
            _,
            Stage::Over {
                termination, again, ..
            },
        ) => over(termination, again.is_some()),
        (_, Stage::Leaving(pod)) => leaving(pod),
        (_, Stage::Deleting) => Says::no(ConditionReason::Stopping, "the VM is being deleted"),
        (_, Stage::Creating) => Says::no(ConditionReason::NoPod, "the pod is being created"),
    }
}

fn live(pod: &PodFacts, phase: Phase, spec: &VirtualMachineSpec) -> Says {
    let name = &pod.name;
    if pod.unreachable {
        return unreachable(pod);
    }
    match (phase, &pod.container) {
        (Phase::Running, Container::Running { ready: Some(_), .. }) => Says::yes("the guest runs"),
        (Phase::Paused, _) if pod.carried.desired == "Paused" => Says::no(
            ConditionReason::Paused,
            "the guest is paused, as the annotation coracle.dev/desired asks",
        ),
        (Phase::Paused, _) => Says::no(
            ConditionReason::Paused,
            format!(
                "the guest is paused, and goes on once its node has shown it the annotation \
                 coracle.dev/desired; if this lasts, kubectl exec {name} -- coracle-shim state \
                 says why"
            ),
        ),
        (Phase::Running, _) => Says::no(
            ConditionReason::GuestNotRunning,
            format!(
                "the guest's virtual CPUs stand still: kubectl exec {name} -- coracle-shim state \
                 says why, kubectl logs {name} what came before"
            ),
        ),
        (Phase::Scheduling, _) => waits_for_node(pod, spec),
        (_, container) => starting(pod, container, spec),
    }
}

fn unreachable(pod: &PodFacts) -> Says {
    Says::unknown(
        ConditionReason::NodeUnreachable,
        format!(
            "node {:?} does not answer, and the guest may run on there: the VM starts nowhere \
             else until the node is back, or is known to be off and has the taint \
             node.kubernetes.io/out-of-service",
            pod.node.as_deref().unwrap_or_default()
        ),
    )
}

fn starting(pod: &PodFacts, container: &Container, spec: &VirtualMachineSpec) -> Says {
    let name = &pod.name;
    if let Some(says) = imports::says(pod) {
        return says;
    }
    match (&pod.last_crash, container) {
        (Some(crash), _) => Says::because(
            crash.reason.clone(),
            format!("{}; the node starts the VM again", crash.message),
        ),
        (None, Container::Waiting { reason, message }) => {
            let own = pod.carried.image.as_deref().unwrap_or("of VMs");
            let (image, named_by) = image_of_disk(spec, message).unwrap_or_else(|| {
                let option = "the controller's --image (CORACLE_VM_IMAGE)";
                (own, option.to_owned())
            });
            waits(pod, reason, message, image, &named_by)
        }
        (None, _) => Says::no(
            ConditionReason::Starting,
            format!("the node starts pod {name:?}"),
        ),
    }
}

/// The image of a disk that the kubelet speaks of, and where it is named. The
/// container waits for the images of its volumes as it does for its own.
fn image_of_disk<'a>(spec: &'a VirtualMachineSpec, said: &str) -> Option<(&'a str, String)> {
    spec.disks.iter().find_map(|disk| {
        let reference = disk.image.as_ref()?.reference.as_str();
        let named_by = format!("spec.disks[{}].image", disk.name);
        said.contains(&format!("\"{reference}\""))
            .then_some((reference, named_by))
    })
}

/// A container that the node has not started, in the kubelet's words. Where
/// its image is named is said as well.
pub(super) fn waits(
    pod: &PodFacts,
    reason: &str,
    message: &str,
    image: &str,
    named_by: &str,
) -> Says {
    let name = &pod.name;
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "SignatureValidationFailed" => {
            // The kubelet tells the cause in turns, with and without these.
            let cause = message.rsplit_once("ErrImagePull: ");
            let cause = cause.map_or(message, |(_, cause)| cause);
            Says::no(
                ConditionReason::ImagePullFailed,
                format!(
                    "node {:?} cannot fetch image {image}: {cause}. It is named by \
                     {named_by}: push it there, give the namespace's service \
                     account default an imagePullSecret, or load the image into the node",
                    pod.node.as_deref().unwrap_or_default()
                ),
            )
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Says::no(
            ConditionReason::ContainerNotCreated,
            format!("the node cannot make the container of pod {name:?}: {message}"),
        ),
        _ if message.is_empty() => Says::no(
            ConditionReason::Starting,
            format!("the node starts pod {name:?}"),
        ),
        _ => Says::no(
            ConditionReason::Starting,
            format!("pod {name:?} does not start yet: {reason}: {message}"),
        ),
    }
}

fn over(termination: &Termination, again: bool) -> Says {
    let more = if again { "; the VM starts again" } else { "" };
    let message = format!("{}{more}", termination.message);
    Says::because(termination.reason.clone(), message)
}

fn leaving(pod: &PodFacts) -> Says {
    let name = &pod.name;
    if pod.deleting || pod.life == crate::cluster::facts::Life::Alive {
        let node = pod.node.as_deref().unwrap_or("none yet");
        return Says::no(
            ConditionReason::Stopping,
            format!(
                "pod {name:?} is being stopped. If this lasts, its node ({node}) may be lost: the \
                 VM starts nowhere else until the node is back, or is known to be off and has \
                 the taint node.kubernetes.io/out-of-service"
            ),
        );
    }
    Says::no(
        ConditionReason::PreviousPodNotEnded,
        format!(
            "pod {name:?} is said to have failed, but its node has not confirmed that its \
             container ended: the VM starts again once the pod is gone"
        ),
    )
}

/// Whether the pod is there and has a node.
pub(super) fn scheduled(sources: &Sources<'_>) -> Says {
    if let Outcome::Refused(refusal) = sources.outcome {
        return Says::no(refusal.reason, refusal.message.clone());
    }
    let Some(pod) = sources.pod() else {
        return Says::no(ConditionReason::NoPod, "there is no pod");
    };
    match &pod.node {
        Some(node) => Says::yes(format!("pod {:?} is on node {node:?}", pod.name)),
        None => waits_for_node(pod, &sources.seen.vm.spec),
    }
}
