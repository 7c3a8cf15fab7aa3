//! Every reason that a condition can have, and what brings it about.

use coracle_block::claim::{ClassFacts, ClassKnown, StorageFacts};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::Value;

use super::*;
use crate::cluster::refusal::PodRefusal;
use crate::template;

/// What is seen of a VM, and what came of what was done.
struct World {
    vm: VirtualMachine,
    pods: Vec<PodFacts>,
    claim: Option<(PersistentVolumeClaim, StorageFacts)>,
    outcome: Outcome,
}

fn with(change: Value, pods: Vec<PodFacts>) -> World {
    World {
        vm: vm(change),
        pods,
        claim: None,
        outcome: Outcome::Done,
    }
}

fn with_pod(pod: PodFacts) -> World {
    with(json!({}), vec![pod])
}

fn with_outcome(change: Value, outcome: Outcome) -> World {
    World {
        outcome,
        ..with(change, vec![])
    }
}

/// A pod whose container waits, in the kubelet's word.
fn waiting(reason: &str) -> World {
    with_pod(PodFacts {
        container: Container::Waiting {
            reason: reason.into(),
            message: "why".into(),
        },
        ..running(1)
    })
}

fn without_node(why: &str) -> World {
    let devices = json!({"spec": {"devices": [{"name": "gpu", "resource": "a.example/gpu"}]}});
    let pod = PodFacts {
        unschedulable: Some(format!("0/1 nodes are available: 1 {why}.")),
        ..scheduling()
    };
    with(devices, vec![pod])
}

/// A pod that was made from another spec, or with another image.
fn made_from(image: &str, memory: &str, generation: i64) -> World {
    let mut world = with(json!({"metadata": {"generation": generation}}), vec![]);
    let mut spec = world.vm.spec.clone();
    spec.memory = coracle_api::vm::MemorySize(memory.into());
    let mut pod = running(1);
    pod.carried.image = Some(image.into());
    pod.carried.applied = Some(Applied::new(&spec, image).to_json().into());
    world.pods = vec![pod];
    world
}

fn class(expandable: bool, waits_for_consumer: bool) -> ClassKnown {
    ClassKnown::Known(
        ClassFacts {
            name: "fast".into(),
            provisioner: "a.example".into(),
            expandable,
            waits_for_consumer,
        }
        .into(),
    )
}

/// A VM with a claim from a template that says two gibibytes. The claim has
/// one, and is bound or not.
fn with_claim(class: ClassKnown, bound: bool) -> World {
    let template = json!({"size": "2Gi", "storageClassName": "fast"});
    let disks = json!([{"name": "root", "claimTemplate": template}]);
    let mut world = with(json!({"spec": {"disks": disks}}), vec![]);
    let disk = &world.vm.spec.disks[0];
    let template = disk.claim_template.as_ref().expect("it is there");
    let claim = template::claim(&world.vm, disk, template);
    let mut claim = serde_json::to_value(claim).expect("JSON");
    claim["metadata"]["uid"] = "c".into();
    claim["spec"]["resources"]["requests"]["storage"] = "1Gi".into();
    claim["status"]["phase"] = "Pending".into();
    if bound {
        claim["spec"]["volumeName"] = "v".into();
        claim["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    }
    let storage = StorageFacts {
        class,
        ..StorageFacts::default()
    };
    let claim = serde_json::from_value(claim).expect("a claim");
    world.claim = Some((claim, storage));
    world
}

fn refusal(reason: ConditionReason) -> PodRefusal {
    PodRefusal {
        reason,
        message: "why".into(),
    }
}

#[expect(clippy::too_many_lines, reason = "one row for each reason")]
fn world(reason: ConditionReason) -> World {
    use ConditionReason as R;
    let was =
        |phase: &str| json!({"status": {"incarnation": 1, "podName": "web-1", "phase": phase}});
    let still = PodFacts {
        container: Container::Running {
            since: at(2),
            ready: None,
        },
        ..running(1)
    };
    match reason {
        R::AsExpected => with_pod(running(1)),
        R::InvalidSpec => with(json!({"spec": {"memory": "1Ki"}}), vec![]),
        R::ClaimNotBound => with_claim(class(true, false), false),
        R::WaitsForFirstConsumer => with_claim(class(true, true), false),
        R::StorageClassNotFound => with_claim(ClassKnown::Missing, false),
        R::Expanding => with_claim(class(true, false), true),
        R::ExpansionForbidden => with_claim(class(false, false), true),
        R::ClaimRefused => World {
            outcome: Outcome::ClaimRefused(refusal(reason)),
            ..with_claim(class(true, false), true)
        },
        R::Scheduling => with_pod(scheduling()),
        R::Unschedulable => without_node("Insufficient memory"),
        R::KvmUnavailable => without_node("Insufficient coracle.dev/kvm"),
        R::DeviceNotOffered => without_node("Insufficient a.example/gpu"),
        R::Starting => with_pod(starting()),
        R::Importing => with_pod(PodFacts {
            imports: vec![Import {
                disk: "root".into(),
                claim: "r".into(),
                from: "https://a.example/d".into(),
                state: ImportState::Running,
            }],
            ..starting()
        }),
        R::ImagePullFailed => waiting("ErrImagePull"),
        R::ContainerNotCreated => waiting("CreateContainerConfigError"),
        R::Paused => with(was("Paused"), vec![still]),
        R::GuestNotRunning => with(was("Running"), vec![still]),
        R::NodeUnreachable => with_pod(PodFacts {
            unreachable: true,
            ..running(1)
        }),
        R::Stopping => with_pod(PodFacts {
            deleting: true,
            ..running(1)
        }),
        R::PreviousPodNotEnded => with_pod(PodFacts {
            life: Life::Unproven,
            ..running(1)
        }),
        R::Halted | R::NoPod => with(json!({"spec": {"runPolicy": "Halted"}}), vec![]),
        R::PodSecurityRefused
        | R::QuotaExceeded
        | R::LimitRangeExceeded
        | R::PodRefused
        | R::PodNameTaken => with_outcome(json!({}), Outcome::Refused(refusal(reason))),
        R::ImageVolumesUnsupported => {
            with_outcome(json!({}), Outcome::Refused(PodRefusal::no_image_volumes()))
        }
        R::PodRejected | R::OutOfMemory | R::ContainerFailed => {
            with_pod(over(1, &word(&reason), Some(137)))
        }
        R::PodLost => {
            let mut world = with(was("Running"), vec![]);
            world.vm.spec.run_policy = RunPolicy::Once;
            world
        }
        R::SpecChanged => made_from(&settings().image, "32Mi", 2),
        R::ImageChanged => made_from("coracle.dev/vm:old", "64Mi", 1),
    }
}

/// All that there are: what serde says when it is given another.
fn all() -> Vec<ConditionReason> {
    let error =
        serde_json::from_str::<ConditionReason>("\"?\"").expect_err("no reason is called ?");
    let text = error.to_string();
    let (_, list) = text
        .split_once("expected one of ")
        .expect("serde lists them");
    let words = list.split('`').skip(1).step_by(2);
    words
        .map(|word| serde_json::from_value(word.into()).expect("a reason"))
        .collect()
}

#[test]
fn there_is_a_world_for_each_reason_that_a_condition_can_have() {
    let all = all();
    assert!(all.len() > 30, "{all:?}");
    for reason in all {
        let World {
            vm,
            pods,
            claim,
            outcome,
        } = world(reason);
        let mut seen = seen(vm, pods);
        if let Some((claim, storage)) = claim {
            let name = claim.metadata.name.clone().expect("a name");
            seen.observed.storage.insert(name.clone(), storage);
            seen.observed.claims.insert(name, claim);
        }
        let decision = decide(&seen, &settings(), at(200));
        let sources = Sources {
            seen: &seen,
            decision: &decision,
            outcome: &outcome,
            settings: &settings(),
            now: at(200),
        };
        let status = status(&sources).expect("a VM that stays");
        let said: Vec<&str> = status
            .conditions
            .iter()
            .map(|c| c.reason.as_str())
            .collect();
        assert!(
            said.contains(&word(&reason).as_str()),
            "{reason:?}: {said:?}"
        );
    }
}
