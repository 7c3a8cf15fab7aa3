//! What the commands read of a VM and of its pod.

use coracle_api::names::{ANNOTATION_DESIRED, CONTAINER};
use coracle_api::vm::{ConditionType, Phase, VirtualMachine, VirtualMachineStatus};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// A condition of a VM.
pub(super) fn condition(status: &VirtualMachineStatus, kind: ConditionType) -> Option<&Condition> {
    let kind = format!("{kind:?}");
    status.conditions.iter().find(|found| found.type_ == kind)
}

/// What to do about a reason, with the names filled in.
pub(super) fn advise(reason: &str, vm: &str, pod: Option<&str>) -> Option<String> {
    let text = coracle_api::advice::advice(reason)?;
    Some(
        text.replace("NAME", vm)
            .replace("POD", pod.unwrap_or("the pod")),
    )
}

/// The phase, once the controller has looked at the VM.
pub(super) fn phase(vm: &VirtualMachine) -> Option<Phase> {
    vm.status.as_ref()?.phase
}

/// An annotation.
pub(super) fn annotation<'a>(vm: &'a VirtualMachine, key: &str) -> Option<&'a str> {
    let annotations = vm.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// Whether the VM is to be paused.
pub(super) fn is_to_be_paused(vm: &VirtualMachine) -> bool {
    annotation(vm, ANNOTATION_DESIRED) == Some("Paused")
}

/// The VM's container in its pod.
pub(super) fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let status = pod.status.as_ref()?;
    let mut all = status.container_statuses.iter().flatten();
    all.find(|container| container.name == CONTAINER)
}

/// The id of the VM's container, while it runs.
pub(super) fn running_container(pod: &Pod) -> Option<&str> {
    let container = container(pod)?;
    container.state.as_ref()?.running.as_ref()?;
    container.container_id.as_deref()
}
