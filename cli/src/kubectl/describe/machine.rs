//! The machine, its pod and its devices in a few words each.

use std::collections::BTreeMap;

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

/// What device plugins give to the VM: each resource, how many, for which of
/// its devices, and how well they are where the kubelet says so.
pub(super) fn devices(vm: &VirtualMachine, pod: Option<&Pod>) -> Vec<String> {
    let mut resources = requested(pod);
    for device in &vm.spec.devices {
        resources.entry(device.resource.clone()).or_insert(None);
    }
    let line = |(name, count): (String, Option<String>)| {
        let names: Vec<&str> = vm
            .spec
            .devices
            .iter()
            .filter(|device| device.resource == name)
            .map(|device| device.name.as_str())
            .collect();
        let used_by = if names.is_empty() {
            String::new()
        } else {
            format!(" for {}", names.join(", "))
        };
        match (count, pod) {
            (Some(count), Some(pod)) => format!("{name}: {count}{used_by}{}", health(pod, &name)),
            (_, Some(_)) => format!("{name}: none{used_by}, the pod is of an earlier spec"),
            (_, None) => format!("{name}: none{used_by}, there is no pod"),
        }
    };
    resources.into_iter().map(line).collect()
}

/// The extended resources of a pod, each with its number.
fn requested(pod: Option<&Pod>) -> BTreeMap<String, Option<String>> {
    let spec = pod.and_then(|pod| pod.spec.as_ref());
    let vm = spec.and_then(|spec| spec.containers.iter().find(|each| each.name == CONTAINER));
    let limits = vm.and_then(|vm| vm.resources.as_ref()?.limits.as_ref());
    let limits = limits.into_iter().flatten();
    limits
        .filter(|(name, _)| name.contains('/'))
        .map(|(name, count)| (name.clone(), Some(count.0.clone())))
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
