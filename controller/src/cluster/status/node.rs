//! The condition `Scheduled` of a pod that has no node: what no node has.

use coracle_api::names::RESOURCE_KVM;
use coracle_api::vm::{ConditionReason, VirtualMachineSpec};

use super::conditions::Says;
use crate::cluster::facts::PodFacts;

/// Why the pod has no node.
pub(super) fn waits_for_node(pod: &PodFacts, spec: &VirtualMachineSpec) -> Says {
    let Some(why) = &pod.unschedulable else {
        let message = format!("pod {:?} waits for a node", pod.name);
        return Says::no(ConditionReason::Scheduling, message);
    };
    if lacks(why, RESOURCE_KVM) {
        return Says::no(
            ConditionReason::KvmUnavailable,
            format!(
                "no node with room offers {RESOURCE_KVM}, a /dev/kvm that works: kubectl describe \
                 nodes shows how many of it each has and how many are used; where there are none, \
                 the device plugin's log on that node says why (no virtualization in the firmware \
                 or in the cloud's machine, no module kvm, a probe that failed). Without KVM set \
                 accelerator: Emulation. The scheduler says: {why}"
            ),
        );
    }
    let missing: Vec<String> = spec
        .devices
        .iter()
        .filter(|device| lacks(why, &device.resource))
        .map(|device| format!("{:?} ({})", device.name, device.resource))
        .collect();
    if !missing.is_empty() {
        return Says::no(
            ConditionReason::DeviceNotOffered,
            format!(
                "no node with room has a free device for {}: kubectl describe nodes shows how many \
                 of each resource a node has and how many are used; a resource that is on no node \
                 is one that no device plugin advertises. The scheduler says: {why}",
                missing.join(" and ")
            ),
        );
    }
    Says::no(
        ConditionReason::Unschedulable,
        format!("no node has room for the pod. The scheduler says: {why}"),
    )
}

/// Whether the scheduler finds too little of this very resource: the name ends
/// where the sentence goes on.
fn lacks(why: &str, resource: &str) -> bool {
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
    why.split("Insufficient ").skip(1).any(|rest| {
        rest.strip_prefix(resource).is_some_and(|rest| {
            let rest = rest.strip_prefix('.').unwrap_or(rest);
            !rest.starts_with(in_name)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_not_another_that_begins_like_it() {
        let why = "0/3 nodes are available: 1 Insufficient memory, 2 Insufficient a.b/gpu. \
                   preemption: 0/3 nodes are available.";
        assert!(lacks(why, "a.b/gpu") && lacks(why, "memory"));
        assert!(!lacks(why, "a.b/gp") && !lacks(why, "a.b/gpu-2"));
        for longer in ["a.b/gpu-2", "a.b/gpu_2", "a.b/gpu2", "a.b/gpu.2"] {
            let why = format!("1 Insufficient {longer}, 1 Insufficient cpu.");
            assert!(!lacks(&why, "a.b/gpu"), "{longer}");
            assert!(lacks(&why, longer) && lacks(&why, "cpu"), "{longer}");
        }
    }
}
