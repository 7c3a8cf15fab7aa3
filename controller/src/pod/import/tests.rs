use coracle_api::vm::VirtualMachine;
use coracle_block::claim::Holder;
use serde_json::{Value, json};

use crate::pod::tests::{observed, settings, vm};
use crate::{Observed, Refusal, Restarts, pod};

fn disk(from: &Value) -> VirtualMachine {
    let claim = json!({"name": "web-root", "from": from});
    vm(&json!({"memory": "64Mi", "disks": [{"name": "root", "claim": claim}]}))
}

fn built(vm: &VirtualMachine, observed: &Observed) -> Value {
    let pod = pod(vm, 1, observed, &settings(Restarts::ByExitCode)).expect("a pod");
    serde_json::to_value(pod).expect("JSON")
}

fn imported(mut observed: Observed) -> Observed {
    for claim in observed.claims.values_mut() {
        let annotations = claim.metadata.annotations.get_or_insert_default();
        annotations.insert("coracle.dev/imported".into(), "something".into());
    }
    observed
}

#[test]
fn disks_of_every_source_are_filled_in_their_order() {
    let sum = format!("sha256:{}", "5e".repeat(32));
    let vm = vm(&json!({
        "memory": "64Mi",
        "firmware": {"kernel": {"claim": {"name": "boot"}, "path": "vmlinuz"}},
        "disks": [
            {"name": "root", "claim": {"name": "web-root", "from":
                {"http": {"url": "https://a.example/debian.qcow2.zst", "checksum": sum}}}},
            {"name": "data", "readOnly": true, "claim": {"name": "web-data", "from":
                {"image": {"reference": "a.example/vm:1", "path": "disk/data.raw"}}}},
            {"name": "copy", "claim": {"name": "copy", "from": {"claim": {"name": "golden"}}}},
            {"name": "file", "claim": {"name": "file", "from": {"claim": {"name": "boot"}}}},
        ]
    }));
    let mut pod = built(&vm, &observed());
    let spec = pod["spec"].as_object_mut().expect("a spec");
    let ours = ["initContainers", "volumes"].map(|key| (key, spec[key].take()));
    let mounts = spec["containers"][0]["volumeMounts"].take();
    let shown = json!({"spec": serde_json::Map::from_iter(ours.map(|(k, v)| (k.to_owned(), v))),
                       "mounts of the vm container": mounts});
    insta::assert_snapshot!(serde_yaml_ng::to_string(&shown).expect("YAML"));
}

#[test]
fn a_claim_that_was_filled_is_a_disk_as_any_other() {
    for from in [
        json!({"http": {"url": "https://a.example/debian.qcow2"}}),
        json!({"claim": {"name": "gone"}}),
    ] {
        let from = disk(&from);
        let plain = vm(
            &json!({"memory": "64Mi", "disks": [{"name": "root", "claim": {"name": "web-root"}}]}),
        );
        let mut pods = [from, plain].map(|vm| built(&vm, &imported(observed())));
        for pod in &mut pods {
            pod["metadata"]["annotations"]["coracle.dev/applied"] = Value::Null;
        }
        assert_eq!(pods[0], pods[1]);
    }
}

#[test]
fn what_the_guest_only_reads_is_written_once() {
    let from = json!({"http": {"url": "https://a.example/tools.iso"}});
    let mut vm = disk(&from);
    vm.spec.disks[0].read_only = true;
    let read_only = |pod: &Value| {
        let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
        let disk = volumes.iter().find(|volume| volume["name"] == "disk-root");
        disk.expect("the disk")["persistentVolumeClaim"]["readOnly"] == true
    };
    let first = built(&vm, &observed());
    assert!(!read_only(&first));
    let machine = first["metadata"]["annotations"]["coracle.dev/machine"].as_str();
    assert!(machine.expect("JSON").contains("\"readOnly\":true"));
    assert!(read_only(&built(&vm, &imported(observed()))));
}

#[test]
fn on_older_servers_the_pods_policy_says_when_to_try_again() {
    let vm = disk(&json!({"http": {"url": "https://a.example/debian.qcow2"}}));
    let pod = pod(&vm, 1, &observed(), &settings(Restarts::ByPod)).expect("a pod");
    let spec = pod.spec.expect("a spec");
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    let importer = &spec.init_containers.expect("an importer")[0];
    assert_eq!(importer.restart_policy, None);
    assert_eq!(importer.restart_policy_rules, None);
}

#[test]
fn a_source_that_somebody_may_write_to_is_refused() {
    let vm = disk(&json!({"claim": {"name": "golden"}}));
    let held = |read_only| {
        let mut observed = observed();
        let holder = Holder {
            pod: "maker-1".into(),
            vm: Some("maker".into()),
            read_only,
            shareable: false,
        };
        observed.holders.insert("golden".into(), vec![holder]);
        pod(&vm, 1, &observed, &settings(Restarts::ByExitCode))
    };
    let refusal = held(false).expect_err("it may be written to");
    let text = refusal.to_string();
    assert!(
        text.contains("filled from claim \"golden\"") && text.contains("VM \"maker\""),
        "{text}"
    );
    let Refusal::Claim { source } = refusal else {
        panic!("{text}");
    };
    assert_eq!(source.reason().as_str(), "ClaimInUse");
    held(true).expect("readers do not mind each other");
}

#[test]
fn a_source_that_is_missing_or_the_vms_own_is_refused() {
    let refused = |vm: &VirtualMachine| {
        let refused = pod(vm, 1, &observed(), &settings(Restarts::ByExitCode));
        refused.expect_err("refused").to_string()
    };
    let text = refused(&disk(&json!({"claim": {"name": "gone"}})));
    assert!(text.contains("claim \"gone\" of disk \"root\""), "{text}");
    let own = vm(&json!({"memory": "64Mi", "disks": [
        {"name": "root", "claim": {"name": "web-root", "from": {"claim": {"name": "web-data"}}}},
        {"name": "data", "claim": {"name": "web-data"}}
    ]}));
    let text = refused(&own);
    assert!(text.contains("is the VM's disk \"data\""), "{text}");
}
