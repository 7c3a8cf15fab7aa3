//! Objects for the tests.

use coracle_api::vm::VirtualMachine;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

/// A time of the day on which [`vm`] was made.
pub(super) fn at(time: &str) -> Timestamp {
    format!("2026-01-01T{time}Z").parse().expect("a time")
}

/// A VM that boots from the claim `web-root`, and was looked at never.
pub(super) fn vm(name: &str) -> VirtualMachine {
    serde_json::from_value(json!({
        "apiVersion": "coracle.dev/v1alpha1",
        "kind": "VirtualMachine",
        "metadata": {
            "name": name, "namespace": "shop", "generation": 1, "resourceVersion": "7",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "memory": "2Gi",
            "cpus": 2,
            "disks": [
                {"name": "root", "claim": {"name": "web-root"}},
                {"name": "seed", "cloudInit": {"userData": "#cloud-config"}},
                {"name": "scratch", "ephemeral": {"size": "10Gi"}},
            ],
            "interfaces": [{"name": "default", "binding": "Slirp"}],
        },
    }))
    .expect("a VM")
}

/// One that runs.
pub(super) fn running(name: &str) -> VirtualMachine {
    let mut vm = vm(name);
    vm.status = Some(
        serde_json::from_value(json!({
            "phase": "Running",
            "incarnation": 3,
            "podName": format!("{name}-3"),
            "nodeName": "node1",
            "podIP": "10.1.2.3",
            "startedAt": "2026-01-01T00:00:10Z",
            "observedGeneration": 1,
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "AsExpected",
                 "message": "the guest runs", "lastTransitionTime": "2026-01-01T00:00:12Z"},
                {"type": "RestartRequired", "status": "False", "reason": "AsExpected",
                 "message": "the guest is what the spec says, or will be when it starts",
                 "lastTransitionTime": "2026-01-01T00:00:12Z"},
            ],
        }))
        .expect("a status"),
    );
    vm
}
