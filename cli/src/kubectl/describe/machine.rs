//! The machine, its pod and its devices in a few words each.

use coracle_api::names::CONTAINER;
use coracle_api::vm::VirtualMachine;
use k8s_openapi::api::core::v1::{ContainerState, Pod};

use crate::kubectl::facts::container;

/// `2 CPUs, 2Gi of memory, Kvm, BIOS`.
pub(super) fn machine(vm: &VirtualMachine) -> String {
    let spec = &vm.spec;
    let cpus = if spec.cpus == 1 { "CPU" } else { "CPUs" };
    let firmware = spec.firmware.as_ref();
    let boots = match firmware.and_then(|firmware| firmware.kernel.as_ref()) {
        Some(kernel) => format!("kernel {} of claim {}", kernel.path, kernel.claim.name),
        None => "BIOS".to_owned(),
    };
    format!(
        "{} {cpus}, {} of memory, {:?}, {boots}",
        spec.cpus, spec.memory, spec.accelerator
    )
}

/// `web-3 on node1, 10.1.2.3, ready, restarted 2 times`.
pub(super) fn pod(vm: &VirtualMachine, pod: Option<&Pod>) -> String {
    let status = vm.status.clone().unwrap_or_default();
    let Some(name) = status.pod_name else {
        return "none".to_owned();
    };
    let Some(pod) = pod else {
        return format!("{name} is gone");
    };
    let mut parts = vec![name];
    if let Some(node) = &status.node_name {
        parts[0] = format!("{} on {node}", parts[0]);
    }
    parts.extend(status.pod_ip);
    if let Some(container) = container(pod) {
        parts.push(state(container.state.as_ref(), container.ready));
        match container.restart_count {
            0 => {}
            1 => parts.push("restarted once in place".to_owned()),
            times => parts.push(format!("restarted {times} times in place")),
        }
    }
    if pod.metadata.deletion_timestamp.is_some() {
        parts.push("being deleted".to_owned());
    }
    parts.join(", ")
}

fn state(state: Option<&ContainerState>, ready: bool) -> String {
    let Some(state) = state else {
        return "not started".to_owned();
    };
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or("waits");
        return waiting.message.as_deref().map_or_else(
            || format!("waiting: {reason}"),
            |message| format!("waiting: {reason}: {message}"),
        );
    }
    if let Some(ended) = &state.terminated {
        return format!("ended with exit code {}", ended.exit_code);
    }
    if ready { "ready" } else { "not ready" }.to_owned()
}

/// What device plugins give to the VM: each resource, how many, and how well
/// they are where the kubelet says so.
pub(super) fn devices(pod: Option<&Pod>) -> Vec<String> {
    let Some(pod) = pod else { return Vec::new() };
    let spec = pod.spec.as_ref();
    let containers = spec
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default();
    let vm = containers
        .iter()
        .find(|container| container.name == CONTAINER);
    let limits = vm.and_then(|vm| vm.resources.as_ref()?.limits.as_ref());
    let named = limits
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.contains('/'));
    named
        .map(|(name, count)| format!("{name}: {}{}", count.0, health(pod, name)))
        .collect()
}

fn health(pod: &Pod, resource: &str) -> String {
    let statuses =
        container(pod).and_then(|container| container.allocated_resources_status.as_ref());
    let mut of = statuses
        .into_iter()
        .flatten()
        .filter(|status| status.name == resource);
    let devices = of.next().and_then(|status| status.resources.as_ref());
    let devices: Vec<String> = devices
        .into_iter()
        .flatten()
        .map(|device| {
            let health = device.health.as_deref().unwrap_or("Unknown");
            format!("{} {health}", device.resource_id)
        })
        .collect();
    if devices.is_empty() {
        String::new()
    } else {
        format!(" ({})", devices.join(", "))
    }
}
