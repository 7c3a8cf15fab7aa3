use coracle_api::vm::VirtualMachine;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{Observed, Refusal, Restarts, Settings, pod};

pub(super) fn settings(restarts: Restarts) -> Settings {
    Settings {
        image: "coracle.dev/vm:0.1.0".into(),
        importer: "coracle.dev/importer:0.1.0".into(),
        restarts,
    }
}

fn claim(name: &str, mode: &str) -> (String, PersistentVolumeClaim) {
    let claim = json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"volumeMode": mode, "accessModes": ["ReadWriteOnce"], "volumeName": format!("pv-{name}"),
                 "resources": {"requests": {"storage": "10Gi"}}},
        "status": {"phase": "Bound", "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"]}
    });
    (
        name.to_owned(),
        serde_json::from_value(claim).expect("a claim"),
    )
}

pub(super) fn observed() -> Observed {
    let claims = [
        claim("web-root", "Block"),
        claim("web-data", "Filesystem"),
        claim("boot", "Filesystem"),
        claim("copy", "Block"),
        claim("file", "Filesystem"),
        claim("golden", "Block"),
    ];
    Observed {
        claims: claims.into(),
        ..Observed::default()
    }
}

pub(super) fn vm(spec: &Value) -> VirtualMachine {
    let object = json!({
        "apiVersion": "coracle.dev/v1alpha1",
        "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop", "uid": "6f1c0d4e-2f5b-4c54-9f0e-0a6d6e5b9a11"},
        "spec": spec
    });
    serde_json::from_value(object).expect("a VM")
}

fn yaml(pod: &Pod) -> String {
    serde_yaml_ng::to_string(pod).expect("YAML")
}

#[test]
fn a_kvm_vm_on_a_block_claim() {
    let vm = vm(&json!({
        "cpus": 2,
        "memory": "2Gi",
        "disks": [{"name": "root", "bootOrder": 1, "claim": {"name": "web-root"}}],
        "interfaces": [{"name": "default", "binding": "Slirp"}],
        "nodeSelector": {"disktype": "ssd"}
    }));
    let pod = pod(&vm, 3, &observed(), &settings(Restarts::ByExitCode)).expect("a pod");
    insta::assert_snapshot!(yaml(&pod));
}

#[test]
fn an_emulated_vm_with_every_kind_of_source() {
    let vm = vm(&json!({
        "runPolicy": "OnFailure",
        "accelerator": "Emulation",
        "memory": "256Mi",
        "firmware": {"kernel": {"claim": {"name": "boot"}, "path": "vmlinuz", "initrd": "initrd.img",
                                "cmdline": "console=ttyS0 root=/dev/vda"}},
        "disks": [
            {"name": "data", "claim": {"name": "web-data"}, "cache": "Writeback"},
            {"name": "scratch", "ephemeral": {"size": "1Gi"}, "bus": "Scsi"},
            {"name": "tools", "readOnly": true, "image": {"reference": "a.example/tools:1"}},
            {"name": "base", "image": {"reference": "a.example/vm:1", "path": "disk/vm.qcow2",
                                       "pullPolicy": "Always", "size": "4Gi"}},
            {"name": "seed", "cloudInit": {"userDataFrom": {"secretName": "web-user-data"},
                                           "networkData": "version: 2"}}
        ],
        "podSecurity": {"supplementalGroups": [6, 995]},
        "terminationGracePeriodSeconds": 30
    }));
    let pod = pod(&vm, 1, &observed(), &settings(Restarts::ByPod)).expect("a pod");
    insta::assert_snapshot!(yaml(&pod));
}

#[test]
fn each_device_is_a_unit_of_its_resource() {
    let device = |name, resource| json!({"name": name, "resource": resource});
    let spec = |devices: Value| {
        json!({
            "memory": "2Gi",
            "disks": [{"name": "root", "claim": {"name": "web-root"}}],
            "devices": devices
        })
    };
    let of = |devices| {
        let pod = pod(
            &vm(&spec(devices)),
            1,
            &observed(),
            &settings(Restarts::ByPod),
        );
        serde_json::to_value(pod.expect("a pod")).expect("JSON")
    };
    let plain = of(json!([]));
    let pod = of(json!([
        device("gpu", "example.com/a10"),
        device("key", "example.com/key"),
        device("gpu-2", "example.com/a10"),
    ]));
    let resources = |pod: &Value| pod["spec"]["containers"][0]["resources"].clone();
    for of in ["limits", "requests"] {
        assert_eq!(resources(&pod)[of]["example.com/a10"], "2");
        assert_eq!(resources(&pod)[of]["example.com/key"], "1");
        assert_eq!(resources(&pod)[of]["coracle.dev/kvm"], "1");
    }
    // 3 × 8 MiB, and a 512th of the guest's memory.
    assert_eq!(resources(&plain)["limits"]["memory"], "2111Mi");
    assert_eq!(resources(&pod)["limits"]["memory"], "2139Mi");
    let machine = pod["metadata"]["annotations"]["coracle.dev/machine"].as_str();
    let machine = coracle_api::machine::Machine::from_json(machine.expect("a description"));
    let devices = machine.expect("reads").devices;
    let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["gpu", "key", "gpu-2"]);
}

#[test]
fn what_is_wrong_with_the_manifest_is_said_at_once() {
    let vm = vm(&json!({"memory": "2G", "disks": []}));
    let refusal = pod(&vm, 1, &observed(), &settings(Restarts::ByPod)).expect_err("refused");
    let text = refusal.to_string();
    assert!(
        matches!(refusal, Refusal::Invalid { ref problems } if problems.len() == 2),
        "{text}"
    );
    assert!(
        text.contains("spec.memory") && text.contains("nothing to boot from"),
        "{text}"
    );
}

#[test]
fn a_missing_claim_is_refused() {
    let vm = vm(&json!({"memory": "1Gi", "disks": [{"name": "root", "claim": {"name": "gone"}}]}));
    let refusal = pod(&vm, 1, &observed(), &settings(Restarts::ByPod)).expect_err("refused");
    assert!(matches!(refusal, Refusal::Claim { .. }));
    assert!(refusal.to_string().contains("gone"), "{refusal}");
}

#[test]
fn a_kernel_in_a_block_claim_is_refused() {
    let vm = vm(&json!({
        "memory": "1Gi",
        "firmware": {"kernel": {"claim": {"name": "web-root"}, "path": "vmlinuz"}}
    }));
    let refusal = pod(&vm, 1, &observed(), &settings(Restarts::ByPod)).expect_err("refused");
    assert!(
        matches!(refusal, Refusal::KernelClaimIsBlock { .. }),
        "{refusal}"
    );
}

fn any_disk() -> impl Strategy<Value = Value> {
    let source = prop_oneof![
        Just(json!({"claim": {"name": "web-root"}})),
        Just(json!({"claim": {"name": "web-data"}})),
        Just(json!({"claim": {"name": "missing"}})),
        Just(json!({"claim": {"name": "copy", "from": {"claim": {"name": "golden"}}}})),
        Just(json!({"claim": {"name": "file", "from": {"image": {"reference": "a"}}}})),
        Just(json!({"ephemeral": {"size": "1Gi"}})),
        Just(json!({"image": {"reference": "a"}})),
        Just(json!({"image": {"reference": "a", "size": "1Gi"}})),
        Just(json!({"cloudInit": {"userData": "#!"}})),
        Just(json!({"cloudInit": {"userDataFrom": {"secretName": "s"}}})),
        Just(json!({})),
    ];
    let bus = prop_oneof![Just("Virtio"), Just("Scsi"), Just("Sata"), Just("Usb")];
    (
        source,
        "[a-z-]{0,6}",
        bus,
        any::<bool>(),
        any::<bool>(),
        prop::option::of(0..5_u32),
    )
        .prop_map(|(source, name, bus, read_only, shareable, order)| {
            let mut disk =
                json!({"name": name, "bus": bus, "readOnly": read_only, "shareable": shareable});
            disk["bootOrder"] = json!(order);
            let fields = source.as_object().expect("an object").clone();
            disk.as_object_mut().expect("an object").extend(fields);
            disk
        })
}

proptest! {
    /// Whatever the manifest says, there is a pod or a refusal; and a pod
    /// keeps the promises of the architecture.
    #[test]
    fn any_manifest_is_a_sound_pod_or_a_refusal(
        disks in prop::collection::vec(any_disk(), 0..5),
        memory in "[0-9]{1,3}(Mi|Gi|Ti|G)",
        cpus in 0..300_u32,
        kvm in any::<bool>(),
        by_exit_code in any::<bool>(),
    ) {
        let accelerator = if kvm { "Kvm" } else { "Emulation" };
        let vm = vm(&json!({"accelerator": accelerator, "memory": memory, "cpus": cpus, "disks": disks}));
        let restarts = if by_exit_code { Restarts::ByExitCode } else { Restarts::ByPod };
        if let Ok(pod) = pod(&vm, 1, &observed(), &settings(restarts)) {
            assert_sound(&pod, &vm);
        }
    }
}

fn assert_sound(pod: &Pod, vm: &VirtualMachine) {
    let pod = serde_json::to_value(pod).expect("JSON");
    let spec = &pod["spec"];
    let container = &spec["containers"][0];
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["securityContext"]["runAsUser"], 107);
    assert_eq!(
        container["securityContext"]["allowPrivilegeEscalation"],
        false
    );
    let limits = &container["resources"]["limits"];
    assert_eq!(
        limits["memory"],
        container["resources"]["requests"]["memory"]
    );
    let kvm = vm.spec.accelerator == coracle_api::types::Accelerator::Kvm;
    assert_eq!(limits.get("coracle.dev/kvm").is_some(), kvm);
    let names = |list: &Value| -> Vec<String> {
        let list = list.as_array().cloned().unwrap_or_default();
        list.iter()
            .map(|v| v["name"].as_str().expect("named").to_owned())
            .collect()
    };
    let mut used = names(&container["volumeMounts"]);
    used.extend(names(&container["volumeDevices"]));
    for importer in spec["initContainers"].as_array().into_iter().flatten() {
        let limits = importer["resources"]["limits"].as_object().expect("limits");
        assert!(
            limits.keys().eq(["memory"]),
            "devices never go to init containers: {limits:?}"
        );
        assert_eq!(importer["securityContext"], container["securityContext"]);
        used.extend(names(&importer["volumeMounts"]));
        used.extend(names(&importer["volumeDevices"]));
    }
    used.sort();
    used.dedup();
    let mut volumes = names(&spec["volumes"]);
    volumes.sort();
    assert_eq!(used, volumes, "every volume is used, and there once");
}
