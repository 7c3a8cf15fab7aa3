//! What containers are given, and what happens when the device goes away.

use std::fs;

use coracle_device_plugin::{Config, Grant};
use coracle_kubelet::{KubeletError, Options};
use coracle_kvm_probe::Level;
use coracle_proto::deviceplugin::device_plugin_client::DevicePluginClient;
use coracle_proto::deviceplugin::{
    AllocateRequest, ContainerAllocateRequest, DeviceSpec, PreStartContainerRequest,
    PreferredAllocationRequest,
};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::kit::{Node, Plugin, RESOURCE, all_healthy, none_healthy, numbers_and_mode};

async fn client(node: &Node) -> DevicePluginClient<Channel> {
    let path = format!("unix://{}", node.plugin_socket().display());
    let channel = Endpoint::from_shared(path)
        .expect("a path")
        .connect()
        .await
        .expect("dials");
    DevicePluginClient::new(channel)
}

/// Why the plugin does not hand out its first slot.
pub(crate) async fn refusal(node: &Node) -> String {
    let refused = client(node).await.allocate(request(&[&["kvm-0"]])).await;
    refused.expect_err("unhealthy").message().to_owned()
}

fn request(containers: &[&[&str]]) -> AllocateRequest {
    let container = |ids: &&[&str]| ContainerAllocateRequest {
        device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    };
    AllocateRequest {
        container_requests: containers.iter().map(container).collect(),
    }
}

#[tokio::test]
async fn a_container_gets_a_node_that_is_open_to_all_while_the_hosts_stays_closed() {
    let Some(node) = Node::new() else { return };
    let kubelet = node.kubelet(Options::default()).await;
    let plugin = Plugin::start(node.config());
    all_healthy(&kubelet).await;
    let response = kubelet
        .allocate(RESOURCE, 2)
        .await
        .expect("allocates")
        .response;
    let host_path = node.node_dir().join("kvm");
    assert_eq!(
        response.devices,
        [DeviceSpec {
            container_path: "/dev/kvm".into(),
            host_path: host_path.display().to_string(),
            permissions: "rw".into(),
        }]
    );
    assert_eq!(
        response.envs["CORACLE_DEVICE_CORACLE_DEV_KVM"],
        "kvm-0,kvm-1"
    );
    assert_eq!(response.envs["CORACLE_KVM_PROBE"], "open");
    assert!(response.cdi_devices.is_empty() && response.mounts.is_empty());
    assert_eq!(numbers_and_mode(&host_path), (node.kvm(), 0o666));
    assert_eq!(numbers_and_mode(&node.device()), (node.kvm(), 0o600));
    plugin.stop().await;
    assert_eq!(
        numbers_and_mode(&host_path),
        (node.kvm(), 0o666),
        "for containers that restart"
    );
}

#[tokio::test]
async fn each_container_of_a_request_is_answered_and_a_bad_one_fails_it() {
    let Some(node) = Node::new() else { return };
    let kubelet = node.kubelet(Options::default()).await;
    let plugin = Plugin::start(node.config());
    all_healthy(&kubelet).await;
    let mut client = client(&node).await;
    let answers = client
        .allocate(request(&[&["kvm-2"], &["kvm-0", "kvm-1"]]))
        .await
        .expect("allocates")
        .into_inner()
        .container_responses;
    let ids: Vec<_> = answers
        .iter()
        .map(|a| a.envs["CORACLE_DEVICE_CORACLE_DEV_KVM"].as_str())
        .collect();
    assert_eq!(ids, ["kvm-2", "kvm-0,kvm-1"]);

    let unknown = client
        .allocate(request(&[&["kvm-0"], &["kvm-3"]]))
        .await
        .expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!(unknown.message(), "coracle.dev/kvm has no device \"kvm-3\"");
    let nothing = client.allocate(request(&[&[]])).await.expect_err("nothing");
    assert_eq!(nothing.code(), Code::InvalidArgument);

    let preferred = client
        .get_preferred_allocation(PreferredAllocationRequest::default())
        .await;
    assert_eq!(
        preferred.expect_err("not offered").code(),
        Code::Unimplemented
    );
    client
        .pre_start_container(PreStartContainerRequest::default())
        .await
        .expect("harmless");
    plugin.stop().await;
}

#[tokio::test]
async fn a_device_that_vanishes_is_unhealthy_until_it_comes_back() {
    let Some(node) = Node::new() else { return };
    let kubelet = node.kubelet(Options::default()).await;
    let plugin = Plugin::start(node.config());
    all_healthy(&kubelet).await;
    for _ in 0..3 {
        node.unplug();
        none_healthy(&kubelet).await;
        let refused = kubelet.allocate(RESOURCE, 1).await.expect_err("unhealthy");
        assert!(
            matches!(refused, KubeletError::NotEnough { unhealthy: 3, .. }),
            "{refused}"
        );
        // A kubelet that asks all the same, from an older list.
        let refused = client(&node).await.allocate(request(&[&["kvm-1"]])).await;
        let refused = refused.expect_err("unhealthy");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(
            refused.message().contains("\"kvm-1\" is unhealthy"),
            "{}",
            refused.message()
        );
        assert!(
            refused.message().contains("is not there"),
            "{}",
            refused.message()
        );
        node.plug_in();
        all_healthy(&kubelet).await;
    }
    assert_eq!(kubelet.registrations(), 1, "health needs no registration");
    plugin.stop().await;
}

#[tokio::test]
async fn another_device_in_its_place_is_unhealthy_and_the_node_follows_the_numbers() {
    let Some(node) = Node::new() else { return };
    let kubelet = node.kubelet(Options::default()).await;
    node.plug_in_null();
    let plugin = Plugin::start(node.config());
    none_healthy(&kubelet).await;
    let given = node.node_dir().join("kvm");
    assert_ne!(numbers_and_mode(&given).0, node.kvm());
    node.plug_in();
    all_healthy(&kubelet).await;
    assert_eq!(numbers_and_mode(&given), (node.kvm(), 0o666));
    // Someone removes the plugin's node: it is made again.
    node.plug_in_null();
    none_healthy(&kubelet).await;
    fs::remove_file(&given).expect("removes");
    node.plug_in();
    all_healthy(&kubelet).await;
    assert_eq!(numbers_and_mode(&given), (node.kvm(), 0o666));
    plugin.stop().await;
}

#[tokio::test]
async fn the_probes_level_decides() {
    let Some(node) = Node::new() else { return };
    let passes = coracle_kvm_probe::probe(&node.device(), Level::Kernel).is_ok();
    let kubelet = node.kubelet(Options::default()).await;
    let plugin = Plugin::start(Config {
        level: Level::Kernel,
        ..node.config()
    });
    if passes {
        all_healthy(&kubelet).await;
    } else {
        none_healthy(&kubelet).await;
    }
    plugin.stop().await;
}

#[tokio::test]
async fn by_cdi_the_runtime_makes_the_node() {
    let Some(node) = Node::new() else { return };
    let kubelet = node.kubelet(Options::default()).await;
    let grant = Grant::Cdi {
        dir: node.cdi_dir(),
    };
    let plugin = Plugin::start(Config {
        grant,
        ..node.config()
    });
    all_healthy(&kubelet).await;
    let response = kubelet
        .allocate(RESOURCE, 1)
        .await
        .expect("allocates")
        .response;
    assert!(response.devices.is_empty());
    assert_eq!(response.cdi_devices[0].name, "coracle.dev/kvm=kvm");
    let spec = node.cdi_dir().join("coracle_coracle.dev_kvm.json");
    let text = fs::read_to_string(&spec).expect("is there");
    let minor = nix::sys::stat::minor(node.kvm());
    assert!(text.contains(&format!("\"minor\": {minor}")), "{text}");
    assert!(!node.node_dir().exists(), "no node of our own");
    plugin.stop().await;
    assert!(!spec.exists(), "the specification goes with the plugin");
}
