use std::collections::HashMap;

use coracle_proto::deviceplugin::{CdiDevice, DeviceSpec};
use serde_json::json;

use super::*;

/// A VM's pod, as the controller makes it, with everything a VM can have.
fn pod() -> Pod {
    let pod = json!({
        "metadata": {
            "name": "web-1", "namespace": "shop", "uid": "6f1c0d4e",
            "labels": {"coracle.dev/vm": "web"},
            "annotations": {"coracle.dev/desired": "Running"}
        },
        "spec": {
            "hostname": "web",
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 107, "runAsGroup": 107, "fsGroup": 107,
                "supplementalGroups": [6], "seccompProfile": {"type": "RuntimeDefault"}
            },
            "containers": [{
                "name": "vm",
                "image": "coracle.dev/vm:0.1.0",
                "env": [{"name": "B", "value": "manifest"}, {"name": "A", "value": "manifest"}],
                "resources": {
                    "limits": {"memory": "512Mi", "coracle.dev/kvm": "1"},
                    "requests": {"memory": "512Mi", "cpu": "200m", "coracle.dev/kvm": "1"}
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}
                },
                "terminationMessagePath": "/dev/termination-log",
                "volumeDevices": [
                    {"name": "disk-root", "devicePath": "/dev/coracle/root"},
                    {"name": "disk-iso", "devicePath": "/dev/coracle/iso"}
                ],
                "volumeMounts": [
                    {"name": "config", "mountPath": "/etc/coracle", "readOnly": true},
                    {"name": "run", "mountPath": "/run/coracle"},
                    {"name": "disk-data", "mountPath": "/var/lib/coracle/disks/data"}
                ]
            }],
            "volumes": [
                {"name": "config", "downwardAPI": {}},
                {"name": "run", "emptyDir": {"medium": "Memory"}},
                {"name": "disk-root", "persistentVolumeClaim": {"claimName": "web-root"}},
                {"name": "disk-iso", "persistentVolumeClaim": {"claimName": "iso", "readOnly": true}},
                {"name": "disk-data", "persistentVolumeClaim": {"claimName": "data", "readOnly": true}}
            ]
        }
    });
    serde_json::from_value(pod).expect("a pod")
}

fn allocated() -> ContainerAllocateResponse {
    ContainerAllocateResponse {
        envs: HashMap::from([("B".to_owned(), "plugin".to_owned())]),
        devices: vec![DeviceSpec {
            container_path: "/dev/kvm".to_owned(),
            host_path: "/run/coracle/dev/kvm".to_owned(),
            permissions: "rw".to_owned(),
        }],
        annotations: HashMap::from([("example.com/kvm".to_owned(), "kvm-0".to_owned())]),
        cdi_devices: vec![CdiDevice {
            name: "example.com/kvm=0".to_owned(),
        }],
        ..ContainerAllocateResponse::default()
    }
}

fn placement() -> Placement {
    let paths = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, path)| ((*name).to_owned(), PathBuf::from(path)))
            .collect()
    };
    Placement {
        uid: "6f1c0d4e".to_owned(),
        log_dir: "/s/pods/shop_web/logs".into(),
        termination_log: "/s/pods/shop_web/termination-log".into(),
        etc_hosts: "/s/pods/shop_web/etc-hosts".into(),
        mounts: paths(&[
            ("config", "/s/config"),
            ("run", "/s/run"),
            ("disk-data", "/srv/data"),
        ]),
        devices: paths(&[
            ("disk-root", "/s/nodes/web-root"),
            ("disk-iso", "/s/nodes/iso"),
        ]),
        allocated: vec![allocated()],
        host: Host {
            memory_bytes: 8 << 30,
            unified_cgroups: false,
        },
    }
}

/// Enums whose zero says something.
const TELLING: [&str; 4] = ["profile_type", "network", "pid", "ipc"];

/// As JSON with sorted keys and without what is empty.
fn pretty(message: &impl serde::Serialize) -> String {
    fn prune(value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        let empty = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Number(number) => number.as_i64() == Some(0),
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::Bool(true) => false,
        };
        match value {
            Value::Object(fields) => {
                let pruned = fields.into_iter().map(|(key, value)| (key, prune(value)));
                pruned
                    .filter(|(key, value)| TELLING.contains(&key.as_str()) || !empty(value))
                    .collect()
            }
            Value::Array(items) => items.into_iter().map(prune).collect(),
            value => value,
        }
    }
    let value = prune(serde_json::to_value(message).expect("JSON"));
    serde_json::to_string_pretty(&value).expect("JSON")
}

#[test]
fn the_sandbox_is_what_a_kubelet_asks_for() {
    insta::assert_snapshot!(pretty(&sandbox(&pod(), &placement()).expect("a sandbox")));
}

#[test]
fn the_container_is_what_a_kubelet_asks_for() {
    insta::assert_snapshot!(pretty(
        &container(&pod(), &placement()).expect("a container")
    ));
}

#[test]
fn only_extended_resources_are_asked_of_device_plugins() {
    let wanted = requests(&pod()).expect("requests");
    assert_eq!(wanted, BTreeMap::from([("coracle.dev/kvm".to_owned(), 1)]));
    assert_eq!(memory_request(&pod()).expect("memory"), 512 << 20);
}

fn refused(change: impl FnOnce(&mut PodSpec)) -> NodeError {
    let mut pod = pod();
    change(pod.spec.as_mut().expect("a spec"));
    let refusal = sandbox(&pod, &placement()).and_then(|_| container(&pod, &placement()));
    refusal.expect_err("refused")
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let unsupported = |field: &str| NodeError::Unsupported {
        field: field.to_owned(),
    };
    assert_eq!(
        refused(|spec| spec.host_network = Some(true)),
        unsupported("hostNetwork")
    );
    assert_eq!(
        refused(|spec| spec.runtime_class_name = Some("kata".to_owned())),
        unsupported("runtimeClassName")
    );
    assert_eq!(
        refused(|spec| spec.containers.push(Container::default())),
        NodeError::Containers {
            containers: 2,
            init: 0
        }
    );
    assert_eq!(
        refused(|spec| {
            let mounts = spec.containers[0].volume_mounts.as_mut().expect("mounts");
            mounts[0].sub_path = Some("x".to_owned());
        }),
        unsupported("volumeMounts[config].subPath")
    );
    assert_eq!(
        refused(|spec| spec.security_context.as_mut().expect("set").run_as_user = Some(0)),
        NodeError::Root
    );
}

#[test]
fn a_volume_or_device_that_is_not_there_is_an_error_and_not_left_out() {
    let mut without = placement();
    without.devices.remove("disk-root");
    let error = container(&pod(), &without).expect_err("no device");
    assert_eq!(
        error,
        NodeError::NoVolume {
            volume: "disk-root".to_owned()
        }
    );
    let mut without = placement();
    without.mounts.remove("run");
    let error = container(&pod(), &without).expect_err("no mount");
    assert_eq!(
        error,
        NodeError::NoVolume {
            volume: "run".to_owned()
        }
    );
}

#[test]
fn plugins_that_contradict_each_other_are_told_so() {
    let mut two = placement();
    let mut other = allocated();
    other.envs = HashMap::from([("B".to_owned(), "other".to_owned())]);
    two.allocated.push(other);
    let error = container(&pod(), &two).expect_err("conflict");
    assert_eq!(
        error,
        NodeError::Conflict {
            what: "the variable B".to_owned()
        }
    );
}

#[test]
fn a_guaranteed_pod_is_killed_last_and_a_cpu_limit_is_a_quota() {
    let mut pod = pod();
    let container_ = &mut pod.spec.as_mut().expect("a spec").containers[0];
    let resources = container_.resources.as_mut().expect("resources");
    let cpu = k8s_openapi::apimachinery::pkg::api::resource::Quantity("2".to_owned());
    resources
        .limits
        .as_mut()
        .expect("limits")
        .insert("cpu".to_owned(), cpu.clone());
    resources
        .requests
        .as_mut()
        .expect("requests")
        .insert("cpu".to_owned(), cpu);
    let linux = container(&pod, &placement())
        .expect("a container")
        .linux
        .expect("linux");
    let resources = linux.resources.expect("resources");
    assert_eq!(
        (resources.oom_score_adj, resources.cpu_quota),
        (-997, 200_000)
    );
}
