//! What is shown of a VM that is well, of one that has crashed, and of one
//! that was never looked at.

use coracle_block::claim::{StorageFacts, Subject, explain};
use serde_json::{Value, json};

use super::*;
use crate::kubectl::testing::{at, running, vm};

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn claim() -> PersistentVolumeClaim {
    of(json!({
        "metadata": {"name": "web-root",
                     "annotations": {"coracle.dev/imported": "https://a.example/debian.qcow2"}},
        "spec": {
            "volumeMode": "Block", "volumeName": "pv-1", "storageClassName": "fast",
            "resources": {"requests": {"storage": "10Gi"}},
        },
        "status": {"phase": "Bound", "capacity": {"storage": "12Gi"}},
    }))
}

fn pod(restarts: i32) -> Pod {
    of(json!({
        "metadata": {"name": "web-3"},
        "spec": {"containers": [{
            "name": "vm",
            "resources": {"limits": {"memory": "2108Mi", "coracle.dev/kvm": "1"}},
        }]},
        "status": {"containerStatuses": [{
            "name": "vm", "image": "i", "imageID": "i", "ready": true, "restartCount": restarts,
            "state": {"running": {"startedAt": "2026-01-01T00:00:10Z"}},
            "allocatedResourcesStatus": [{"name": "coracle.dev/kvm", "resources": [
                {"resourceID": "kvm-0", "health": "Healthy"},
            ]}],
        }]},
    }))
}

fn event(reason: &str, kind: &str, at: &str) -> Event {
    of(json!({
        "metadata": {"name": reason},
        "involvedObject": {"kind": kind, "name": "web"},
        "type": "Normal", "reason": reason, "message": "created pod web-3",
        "eventTime": at,
    }))
}

fn facts(vm: VirtualMachine, pod: Option<Pod>) -> Facts {
    Facts {
        vm,
        pod,
        claims: BTreeMap::from([("web-root".to_owned(), Some(claim()))]),
        explanations: vec![explain(&Subject {
            claim: &claim(),
            storage: &StorageFacts::default(),
            nodes: &[],
            snapshot_classes: None,
            holders: &[],
        })],
        events: vec![event(
            "PodCreated",
            "VirtualMachine",
            "2026-01-01T00:00:01.000000Z",
        )],
        hidden: Vec::new(),
    }
}

#[test]
fn a_vm_that_is_well() {
    let text = text::render(&facts(running("web"), Some(pod(0))), at("00:05:00"));
    insta::assert_snapshot!(text);
}

#[test]
fn a_vm_that_has_crashed_and_runs_again() {
    let mut vm = running("web");
    if let Some(status) = &mut vm.status {
        status.last_termination = Some(of(json!({
            "reason": "GuestPanicked", "message": "the guest's kernel panicked",
            "exitCode": 1, "at": "2026-01-01T00:00:30Z", "incarnation": 3,
        })));
    }
    let mut facts = facts(vm, Some(pod(2)));
    facts.events.clear();
    insta::assert_snapshot!(text::render(&facts, at("00:05:00")));
}

#[test]
fn a_vm_whose_claim_is_missing_and_whose_events_are_hidden() {
    let mut vm = vm("web");
    vm.status = Some(of(json!({
        "phase": "Pending",
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "ClaimNotFound",
             "message": "claim \"web-root\" does not exist",
             "lastTransitionTime": "2026-01-01T00:00:01Z"},
            {"type": "DisksReady", "status": "False", "reason": "ClaimNotFound",
             "message": "claim \"web-root\" does not exist",
             "lastTransitionTime": "2026-01-01T00:00:01Z"},
        ],
    })));
    let facts = Facts {
        claims: BTreeMap::from([("web-root".to_owned(), None)]),
        explanations: Vec::new(),
        events: Vec::new(),
        hidden: vec!["you may not list events in namespace \"shop\"".to_owned()],
        ..facts(vm, None)
    };
    insta::assert_snapshot!(text::render(&facts, at("00:05:00")));
}

#[test]
fn a_vm_that_the_controller_has_not_seen() {
    let facts = facts(vm("web"), None);
    let text = text::render(&facts, at("00:00:05"));
    assert!(text.contains("Phase:         unknown"), "{text}");
    assert!(text.contains("get deploy coracle-controller"), "{text}");
}

#[test]
fn a_disk_with_a_claim_template_shows_the_claim_made_for_it() {
    let mut vm = vm("web");
    vm.spec.disks = of(json!([{"name": "root", "claimTemplate": {"size": "10Gi"}}]));
    assert_eq!(disks::claim_names(&vm), ["web-root"]);
    let text = text::render(&facts(vm, None), at("00:00:05"));
    assert!(text.contains("root   claim web-root"), "{text}");
}

#[test]
fn devices_are_told_with_their_names_and_how_they_are() {
    let mut vm = running("web");
    let device = |name, resource| json!({"name": name, "resource": resource});
    let devices = [
        device("gpu", "example.com/a10"),
        device("key", "example.com/key"),
        device("gpu-2", "example.com/a10"),
    ];
    vm.spec.devices = devices.map(of).into();
    let mut given = pod(0);
    let mut value = serde_json::to_value(&given).expect("JSON");
    value["spec"]["containers"][0]["resources"]["limits"]["example.com/a10"] = json!("2");
    let status = &mut value["status"]["containerStatuses"][0]["allocatedResourcesStatus"];
    status.as_array_mut().expect("a list").push(json!({
        "name": "example.com/a10",
        "resources": [{"resourceID": "0000:3b:00.0", "health": "Unhealthy"}],
    }));
    given = serde_json::from_value(value).expect("a pod");
    assert_eq!(
        machine::devices(&vm, Some(&given)),
        [
            "coracle.dev/kvm: 1 (kvm-0 Healthy)",
            "example.com/a10: 2 for gpu, gpu-2 (0000:3b:00.0 Unhealthy)",
            "example.com/key: none for key, the pod is of an earlier spec",
        ]
    );
    assert_eq!(
        machine::devices(&vm, None)[1],
        "example.com/key: none for key, there is no pod"
    );
}
