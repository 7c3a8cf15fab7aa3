//! Scenarios of Kubernetes' own node tests for device plugins, under their
//! names, before a kubelet of the tests. All that there are, and what holds
//! them here (`e2e`: before the real kubelet, in `tests/e2e/tests/cluster`):
//!
//! | Kubernetes' scenario | Here |
//! |---|---|
//! | can schedule a pod that requires a device | e2e `device_plugin::a_restricted_pod_of_any_user_…`; `device::a_container_gets_a_node_…` |
//! | can make a CDI device accessible in a container | this file; e2e `assignments` |
//! | keeps device plugin assignments across pod restarts | e2e `assignments` |
//! | … across kubelet restarts | e2e `device_plugin::a_restarted_kubelet_…`; `faults` |
//! | … across pod and kubelet restarts | e2e `assignments` |
//! | … after the device plugin has restarted | e2e `assignments`; `binary::it_survives_being_killed_…` |
//! | … after kubelet restart and device plugin restart | e2e `assignments`; `faults` |
//! | will not attempt to admit the succeeded pod after the kubelet restart and device plugin removed | e2e `assignments` |
//! | \[`OrphanedPods`\] ensures pods consuming devices deleted while kubelet is down are cleaned up correctly | this file; e2e `assignments` |
//! | can schedule a pod with a restartable init container | this file; e2e `assignments` |
//! | does not keep device plugin assignments across node reboots if fails admission | e2e `assignments` |
//! | when `GetDevicePluginOptions` fails, device plugin will not be used | this file; e2e `options_fail` (a plugin of ours does not fail it: the kubelet is shown another server) |
//! | will set allocatable to zero when a single device became unhealthy and then back to 1 … | e2e `device_health`; `device::a_device_that_vanishes_…` |
//! | will set allocatable to zero when a single device became unhealthy, but capacity will stay at 1 | this file; e2e `device_health` |
//! | will lower allocatable to a number of unhealthy devices and then back … | e2e `device_health`; `devices::a_function_follows_its_driver_…` |
//! | when `ListAndWatch` fails immediately … | `registration::it_registers_again_when_nobody_follows_its_list` |
//! | when `ListAndWatch` fails after provisioning devices … | this file; e2e `device_health` |
//! | when device plugin is stopped after provisioning devices, node allocatable will be set to zero | this file; e2e `device_health` |
//! | will report a Healthy and then Unhealthy single device in the pod status | e2e `device_health` |
//! | will report a Device Status for the failed pod in the pod status | this file; e2e `device_health` |
//! | (device manager) reports an admission error after a restart without the plugin | e2e `assignments::does_not_keep_…` |

use std::fs;

use coracle_device_plugin::{Config, Grant};
use coracle_kubelet::{Device, Faults, Kubelet, KubeletError, Options, Takeover};
use coracle_proto::deviceplugin::device_plugin_client::DevicePluginClient;
use coracle_proto::deviceplugin::{AllocateRequest, ContainerAllocateRequest};
use serde_json::Value;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use crate::kit::{COUNT, LIMIT, Node, Plugin, RESOURCE, all_healthy, none_healthy};
use crate::machine::{Machine, allocated, healthy, poke};
use crate::tree::Pci;

const PORT: &str = "example.com/port";
/// One device, which the list has also while it is away.
const NAMED: &str = "- {name: example.com/port, chardev: [{glob: /dev/ttyS0}]}\n";
/// Those that are there.
const ALL: &str = "- {name: example.com/port, chardev: [{glob: /dev/ttyS*}]}\n";

/// Waits until the resource has one device, which cannot be given out.
async fn one_unhealthy(kubelet: &Kubelet) {
    let one = |devices: &[Device]| matches!(devices, [one] if one.id == "ttyS0" && !one.healthy);
    kubelet
        .wait_for(PORT, one, LIMIT)
        .await
        .expect("capacity 1, allocatable 0");
}

/// The device that a runtime would make for a name of CDI.
fn cdi_device(dir: &std::path::Path, name: &str) -> Value {
    let (kind, device) = name.split_once('=').expect("a name of CDI");
    let mut specs = fs::read_dir(dir).expect("reads").map(|entry| {
        let text = fs::read_to_string(entry.expect("reads").path()).expect("reads");
        serde_json::from_str::<Value>(&text).expect("JSON")
    });
    let spec = specs.find(|spec| spec["kind"] == kind).expect(name);
    let devices = spec["devices"].as_array().expect("a list");
    let found = devices.iter().find(|found| found["name"] == device);
    found.expect(name)["containerEdits"]["deviceNodes"][0].clone()
}

#[tokio::test]
async fn can_make_a_cdi_device_accessible_in_a_container() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.tree.node("ttyS0", 4, 64);
    machine.tree.node("ttyS1", 4, 65);
    machine.write(&[ALL]);
    let kubelet = machine.kubelet().await;
    let dir = machine.path("cdi");
    let plugin = Plugin::start(Config {
        grant: Grant::Cdi { dir: dir.clone() },
        ..machine.config()
    });
    healthy(&kubelet, PORT, &["ttyS0", "ttyS1"]).await;
    let given = allocated(&kubelet, PORT, 1).await;
    let names: Vec<_> = given.response.cdi_devices.iter().map(|c| &c.name).collect();
    let [name] = names.as_slice() else {
        panic!("{names:?}")
    };
    let node = cdi_device(&dir, name);
    assert_eq!(node["path"], format!("/dev/{}", given.ids[0]));
    assert_eq!((&node["major"], &node["minor"]), (&4.into(), &64.into()));
    assert_eq!(
        given.response.envs["CORACLE_DEVICE_EXAMPLE_COM_PORT"],
        given.ids[0]
    );
    plugin.stop().await;
}

#[tokio::test]
async fn ensures_pods_consuming_devices_deleted_while_kubelet_is_down_are_cleaned_up_correctly() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.write(&["- {name: example.com/gpu, pci: [{vendor: 10de}]}\n"]);
    machine.tree.pci(&Pci::default());
    let second = Pci {
        address: "0000:01:00.1",
        ..Pci::default()
    };
    machine.tree.pci(&second);
    let kubelet = machine.kubelet().await;
    let plugin = Plugin::start(machine.config());
    let both = ["0000:01:00.0", "0000:01:00.1"];
    healthy(&kubelet, "example.com/gpu", &both).await;
    let held = allocated(&kubelet, "example.com/gpu", 1).await;
    healthy(&kubelet, "example.com/gpu", &[held.ids[0].as_str()]).await;
    // The next kubelet does not find the pod any more.
    kubelet.stop().await;
    let kubelet = machine.kubelet().await;
    healthy(&kubelet, "example.com/gpu", &both).await;
    assert_eq!(allocated(&kubelet, "example.com/gpu", 2).await.ids.len(), 2);
    plugin.stop().await;
}

/// The plugin of the one resource of a machine, called as by the kubelet.
async fn client(machine: &Machine) -> DevicePluginClient<Channel> {
    let sockets = fs::read_dir(machine.path("device-plugins")).expect("reads");
    let mut paths = sockets.map(|entry| entry.expect("reads").path());
    let path = paths.find(|path| path.file_name().is_some_and(|name| name != "kubelet.sock"));
    let path = format!("unix://{}", path.expect("a socket").display());
    let endpoint = Endpoint::from_shared(path).expect("a path");
    DevicePluginClient::new(endpoint.connect().await.expect("dials"))
}

#[tokio::test]
async fn can_schedule_a_pod_with_a_restartable_init_container() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.tree.node("ttyS0", 4, 64);
    machine.tree.node("ttyS1", 4, 65);
    machine.write(&[ALL]);
    let kubelet = machine.kubelet().await;
    let plugin = Plugin::start(machine.config());
    healthy(&kubelet, PORT, &["ttyS0", "ttyS1"]).await;
    let mut client = client(&machine).await;
    // The kubelet asks for each container. What an init container had that has
    // ended goes to the next but one; the restartable one keeps its own.
    for (container, id) in [("init", "ttyS0"), ("sidecar", "ttyS1"), ("main", "ttyS0")] {
        let request = ContainerAllocateRequest {
            device_ids: vec![id.to_owned()],
        };
        let request = AllocateRequest {
            container_requests: vec![request],
        };
        let given = client
            .allocate(request)
            .await
            .expect(container)
            .into_inner();
        let response = &given.container_responses[0];
        let variable = &response.envs["CORACLE_DEVICE_EXAMPLE_COM_PORT"];
        assert_eq!(variable, id, "{container}");
        let node = &response.devices[0].container_path;
        assert_eq!(*node, format!("/dev/{id}"), "{container}");
    }
    plugin.stop().await;
}

#[tokio::test]
async fn when_get_device_plugin_options_fails_device_plugin_will_not_be_used() {
    let Some(node) = Node::new() else { return };
    let faults = Faults {
        options_fail: u32::MAX,
        ..Faults::default()
    };
    let kubelet = node.faulty_kubelet(faults).await;
    let plugin = Plugin::start(node.config());
    let tried = async {
        while kubelet.registrations() < 3 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, tried).await.expect("it tries again");
    assert!(kubelet.devices(RESOURCE).is_empty());
    let refused = kubelet.allocate(RESOURCE, 1).await.expect_err("not used");
    assert!(
        matches!(refused, KubeletError::UnknownResource { .. }),
        "{refused}"
    );
    // A kubelet that can ask uses it.
    let better = Options {
        takeover: Takeover::Replace,
        ..Options::default()
    };
    let better = node.kubelet(better).await;
    all_healthy(&better).await;
    plugin.stop().await;
}

#[tokio::test]
async fn will_set_allocatable_to_zero_when_a_single_device_became_unhealthy_but_capacity_will_stay_at_1()
 {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.tree.node("ttyS0", 4, 64);
    machine.write(&[NAMED]);
    let kubelet = machine.kubelet().await;
    let plugin = Plugin::start(machine.config());
    healthy(&kubelet, PORT, &["ttyS0"]).await;
    let held = allocated(&kubelet, PORT, 1).await;
    machine.tree.remove_node("ttyS0");
    poke();
    one_unhealthy(&kubelet).await;
    // The pod goes; the plugin is asked again, and has nothing else to tell.
    kubelet.release(PORT, &held.ids);
    plugin.stop().await;
    let plugin = Plugin::start(machine.config());
    one_unhealthy(&kubelet).await;
    machine.tree.node("ttyS0", 4, 64);
    poke();
    healthy(&kubelet, PORT, &["ttyS0"]).await;
    plugin.stop().await;
}

#[tokio::test]
async fn when_list_and_watch_fails_after_provisioning_devices_node_allocatable_will_be_set_to_zero_and_kubelet_will_not_retry_to_list_resources()
 {
    let Some(node) = Node::new() else { return };
    let faults = Faults {
        drop_streams: 1,
        ..Faults::default()
    };
    let kubelet = node.faulty_kubelet(faults).await;
    let plugin = Plugin::start(node.config());
    none_healthy(&kubelet).await;
    // The kubelet does not try again; the plugin does.
    all_healthy(&kubelet).await;
    assert_eq!(kubelet.registrations(), 2);
    plugin.stop().await;
}

#[tokio::test]
async fn when_device_plugin_is_stopped_after_provisioning_devices_node_allocatable_will_be_set_to_zero()
 {
    let Some(node) = Node::new() else { return };
    let kubelet = node.kubelet(Options::default()).await;
    let plugin = Plugin::start(node.config());
    all_healthy(&kubelet).await;
    plugin.stop().await;
    none_healthy(&kubelet).await;
    assert_eq!(kubelet.devices(RESOURCE).len(), COUNT, "capacity stays");
    let refused = kubelet.allocate(RESOURCE, 1).await.expect_err("stopped");
    assert!(
        matches!(refused, KubeletError::Disconnected { .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn will_report_a_device_status_for_the_failed_pod_in_the_pod_status() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.tree.node("ttyS0", 4, 64);
    machine.write(&[ALL]);
    let kubelet = machine.kubelet().await;
    let plugin = Plugin::start(machine.config());
    healthy(&kubelet, PORT, &["ttyS0"]).await;
    // Given to a pod whose container never starts.
    allocated(&kubelet, PORT, 1).await;
    machine.tree.remove_node("ttyS0");
    poke();
    // The status is by the list: what is gone must be in it while a pod has it.
    one_unhealthy(&kubelet).await;
    plugin.stop().await;
}
