//! From the plan to the pod. Nothing here can fail.

use std::collections::BTreeMap;

use coracle_api::machine::Machine;
use coracle_api::names::{
    ANNOTATION_APPLIED, ANNOTATION_DESIRED, ANNOTATION_GENERATION, ANNOTATION_MACHINE,
    ANNOTATION_RESTART, CONTAINER, DISK_GID, LABEL_VM, RESOURCE_KVM, TERMINATION_LOG, VM_UID,
};
use coracle_api::types::Accelerator;
use coracle_api::vm::{RunPolicy, VirtualMachine};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerRestartRule, ContainerRestartRuleOnExitCodes, ExecAction,
    Pod, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::applied::Applied;
use crate::plan::VmPlan;
use crate::{Restarts, Settings, overhead, template};

mod import;
mod volumes;

/// CPU request per virtual CPU, in thousandths: VMs idle most of the time,
/// and an administrator who wants more says so in a LimitRange.
const MILLICPU_PER_VCPU: u32 = 100;
/// How often the kubelet asks the shim whether the guest runs, which is how
/// late a pause shows in the VM's phase. The answer costs one small process.
const READINESS_SECONDS: i32 = 2;
/// One "no" is enough: the shim knows. Three, the default, would only make a
/// pause show three times as late.
const READINESS_FAILURES: i32 = 1;
/// How long the answer may take on a busy node before it counts as "no".
const READINESS_TIMEOUT_SECONDS: i32 = 10;

/// The pod of `plan`, carrying `machine`.
#[must_use]
pub fn build(plan: &VmPlan<'_>, machine: &Machine, settings: &Settings) -> Pod {
    Pod {
        metadata: metadata(plan, machine, settings),
        spec: Some(spec(plan, machine, settings)),
        status: None,
    }
}

fn metadata(plan: &VmPlan<'_>, machine: &Machine, settings: &Settings) -> ObjectMeta {
    ObjectMeta {
        name: Some(plan.pod_name()),
        namespace: Some(plan.namespace.into()),
        labels: Some(strings([
            (LABEL_VM, plan.name),
            ("app.kubernetes.io/name", "virtual-machine"),
            ("app.kubernetes.io/instance", plan.name),
            ("app.kubernetes.io/managed-by", "coracle"),
        ])),
        annotations: Some(annotations(plan, machine, settings)),
        owner_references: template::owner(plan.vm).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn annotations(
    plan: &VmPlan<'_>,
    machine: &Machine,
    settings: &Settings,
) -> BTreeMap<String, String> {
    let applied = Applied::new(&plan.vm.spec, &settings.image);
    let mut annotations = strings([
        (ANNOTATION_APPLIED, applied.to_json().as_str()),
        (ANNOTATION_MACHINE, machine.to_json().as_str()),
        (ANNOTATION_DESIRED, desired(plan.vm)),
        ("kubectl.kubernetes.io/default-container", CONTAINER),
    ]);
    if let Some(generation) = plan.vm.metadata.generation {
        annotations.insert(ANNOTATION_GENERATION.to_owned(), generation.to_string());
    }
    if let Some(restart) = restart(plan.vm) {
        annotations.insert(ANNOTATION_RESTART.to_owned(), restart.to_owned());
    }
    annotations
}

/// The state that a VM's annotation asks for; anything but `Paused` is
/// `Running`.
#[must_use]
pub fn desired(vm: &VirtualMachine) -> &'static str {
    match annotation(vm, ANNOTATION_DESIRED) {
        Some("Paused") => "Paused",
        _ => "Running",
    }
}

/// The value of a VM's restart annotation.
#[must_use]
pub fn restart(vm: &VirtualMachine) -> Option<&str> {
    annotation(vm, ANNOTATION_RESTART).filter(|value| !value.is_empty())
}

fn annotation<'a>(vm: &'a VirtualMachine, key: &str) -> Option<&'a str> {
    let annotations = vm.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

fn strings<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn spec(plan: &VmPlan<'_>, machine: &Machine, settings: &Settings) -> PodSpec {
    let vm = &plan.vm.spec;
    PodSpec {
        // The shim needs no API, and a guest that breaks out finds no token.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        hostname: Some(plan.name.into()),
        restart_policy: Some(pod_restart_policy(vm.run_policy, settings.restarts).into()),
        termination_grace_period_seconds: Some(vm.termination_grace_period_seconds),
        security_context: Some(pod_security(plan)),
        init_containers: import::containers(plan, settings),
        containers: vec![container(plan, machine, settings)],
        volumes: Some(volumes::volumes(plan)),
        node_selector: vm.node_selector.clone(),
        affinity: vm.affinity.clone(),
        tolerations: vm.tolerations.clone(),
        topology_spread_constraints: vm.topology_spread_constraints.clone(),
        priority_class_name: vm.priority_class_name.clone(),
        scheduler_name: vm.scheduler_name.clone(),
        runtime_class_name: vm.runtime_class_name.clone(),
        ..PodSpec::default()
    }
}

fn pod_restart_policy(policy: RunPolicy, restarts: Restarts) -> &'static str {
    match (restarts, policy) {
        (Restarts::ByPod, RunPolicy::Always) => "Always",
        (Restarts::ByPod, RunPolicy::OnFailure) => "OnFailure",
        (Restarts::ByPod, RunPolicy::Once | RunPolicy::Halted) | (Restarts::ByExitCode, _) => {
            "Never"
        }
    }
}

/// What of the pod follows from the run policy: its restart policy, and the
/// exit codes after which the container starts again in place.
#[must_use]
pub fn restarting(policy: RunPolicy, restarts: Restarts) -> (&'static str, &'static [i32]) {
    let codes = match restarts {
        Restarts::ByExitCode => restart_codes(policy),
        Restarts::ByPod => &[],
    };
    (pod_restart_policy(policy, restarts), codes)
}

/// The exit codes after which the container starts again in place. 2 and 3, a
/// wrong manifest and a missing device, are in no list: starting again would
/// not help.
fn restart_codes(policy: RunPolicy) -> &'static [i32] {
    match policy {
        RunPolicy::Always => &[0, 1],
        RunPolicy::OnFailure => &[1],
        RunPolicy::Once | RunPolicy::Halted => &[],
    }
}

/// The rule by which a container starts again in place after these codes.
fn restart_on(codes: &[i32], restarts: Restarts) -> Option<Vec<ContainerRestartRule>> {
    (restarts == Restarts::ByExitCode && !codes.is_empty()).then(|| {
        vec![ContainerRestartRule {
            action: "Restart".into(),
            exit_codes: Some(ContainerRestartRuleOnExitCodes {
                operator: "In".into(),
                values: Some(codes.to_vec()),
            }),
        }]
    })
}

fn pod_security(plan: &VmPlan<'_>) -> PodSecurityContext {
    let groups = plan
        .vm
        .spec
        .pod_security
        .as_ref()
        .map(|security| security.supplemental_groups.clone());
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(VM_UID),
        run_as_group: Some(VM_UID),
        fs_group: Some(VM_UID),
        // A disk image is one file: walking a large volume at every start
        // would only cost time.
        fs_group_change_policy: Some("OnRootMismatch".into()),
        supplemental_groups: Some(groups.unwrap_or_else(|| vec![DISK_GID])),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

fn container(plan: &VmPlan<'_>, machine: &Machine, settings: &Settings) -> Container {
    let policy = plan.vm.spec.run_policy;
    let rules = restart_on(restart_codes(policy), settings.restarts);
    Container {
        name: CONTAINER.into(),
        image: Some(settings.image.clone()),
        resources: Some(resources(machine)),
        restart_policy: rules.as_ref().map(|_| "Never".into()),
        restart_policy_rules: rules,
        security_context: Some(container_security()),
        readiness_probe: Some(Probe {
            exec: Some(ExecAction {
                command: Some(vec!["/usr/bin/coracle-shim".into(), "probe".into()]),
            }),
            period_seconds: Some(READINESS_SECONDS),
            failure_threshold: Some(READINESS_FAILURES),
            timeout_seconds: Some(READINESS_TIMEOUT_SECONDS),
            ..Probe::default()
        }),
        termination_message_path: Some(TERMINATION_LOG.into()),
        termination_message_policy: Some("File".into()),
        volume_devices: Some(volumes::devices(plan)).filter(|devices| !devices.is_empty()),
        volume_mounts: Some(volumes::mounts(plan)),
        ..Container::default()
    }
}

/// What Pod Security `restricted` asks of a container, and a root that stays as
/// the image has it.
fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            add: None,
        }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

fn resources(machine: &Machine) -> ResourceRequirements {
    let memory = machine
        .memory_bytes
        .saturating_add(overhead::bytes(machine));
    let mut limits = BTreeMap::from([("memory".to_owned(), mebibytes(memory))]);
    if machine.accelerator == Accelerator::Kvm {
        limits.insert(RESOURCE_KVM.to_owned(), Quantity("1".into()));
    }
    limits.extend(devices(machine));
    let mut requests = limits.clone();
    let millicpu = machine.cpu.count().saturating_mul(MILLICPU_PER_VCPU);
    requests.insert("cpu".to_owned(), Quantity(format!("{millicpu}m")));
    ResourceRequirements {
        limits: Some(limits),
        requests: Some(requests),
        ..ResourceRequirements::default()
    }
}

/// One unit for each device, summed where several are of one resource. On the
/// container with the guest and on no init container: the kubelet would take
/// what such a one has for its own.
fn devices(machine: &Machine) -> impl Iterator<Item = (String, Quantity)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for device in &machine.devices {
        *counts.entry(&device.resource).or_default() += 1;
    }
    counts
        .into_iter()
        .map(|(resource, count)| (resource.to_owned(), Quantity(count.to_string())))
}

fn mebibytes(bytes: u64) -> Quantity {
    Quantity(format!("{}Mi", bytes.div_ceil(1 << 20)))
}

#[cfg(test)]
mod tests;
