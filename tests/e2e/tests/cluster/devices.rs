//! The device plugin's other devices and the real kubelet: tun, and what a
//! configuration file says.

use anyhow::{Context, ensure};
use coracle_api::vm::{ConditionType, Phase};
use coracle_e2e::{
    Cluster, DeviceNodes, Machine, Namespace, Node, OwnPlugin, PodFacts, condition, plain_pod,
    vm_object, wait_for,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, LogParams, PostParams};
use serde_json::json;

use crate::controller::place;

const BUSYBOX: &str = "coracle.dev/e2e-busybox:1";
const TUN: &str = "coracle.dev/tun";
const SHARED: &str = "example.com/fuse";
const ALONE: &str = "example.com/loops";
const MOVED: &str = "example.com/moved";
/// A device that a container has only if it is given it.
const DEVICE: &str = "/dev/loop-control";
/// Another, which many may share.
const FUSE: &str = "/dev/fuse";

/// A pod of uid 1000 that opens a device and goes on.
async fn holder(
    namespace: &Namespace,
    name: &str,
    resource: &str,
    device: &str,
) -> anyhow::Result<()> {
    let script = format!("exec 3<>{device} && env && exec sleep 3600");
    let pod = plain_pod(
        name,
        BUSYBOX,
        &["sh", "-c", &script],
        json!({resource: "1"}),
    );
    let pods = namespace.pods();
    pods.create(&PostParams::default(), &pod).await?;
    let settled = wait_for(&pods, name, "runs", |pod: Option<&Pod>| {
        pod.is_some_and(|pod| pod.runs() || pod.phase() == "Failed" || pod.exit_code().is_some())
    });
    let settled = settled.await?.unwrap_or_default();
    ensure!(settled.runs(), "{name}: {:#?}", settled.status);
    Ok(())
}

async fn gone(namespace: &Namespace, name: &str) -> anyhow::Result<()> {
    let pods = namespace.pods();
    pods.delete(name, &DeleteParams::default()).await?;
    wait_for(&pods, name, "gone", |pod: Option<&Pod>| pod.is_none()).await?;
    Ok(())
}

/// Writes the plugin's configuration file as an editor does.
pub(crate) fn configure(node: &Node, resources: &[&str]) -> anyhow::Result<()> {
    let file = node.dir().join(node.name()).join("devices.yaml");
    let new = file.with_extension("new");
    std::fs::write(&new, format!("resources:\n{}", resources.concat()))?;
    std::fs::rename(new, &file).with_context(|| file.display().to_string())
}

#[tokio::test]
async fn a_pod_of_any_user_opens_the_tun_that_it_requested() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    node.offers(TUN, 1000).await?;
    let namespace = Namespace::new(&cluster).await?;
    holder(&namespace, "with", TUN, "/dev/net/tun").await?;
    let said = namespace.pods().logs("with", &LogParams::default()).await?;
    assert!(
        said.contains("CORACLE_DEVICE_CORACLE_DEV_TUN=tun-"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn devices_of_the_file_come_go_and_are_never_given_twice() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    if !std::path::Path::new(FUSE).exists() {
        coracle_tests::skip("there is no /dev/fuse");
        return Ok(());
    }
    let _shared = cluster.shared().await;
    let namespace = Namespace::new(&cluster).await?;
    let shared = format!("- {{name: {SHARED}, chardev: [{{glob: {FUSE}, count: 3}}]}}\n");
    let alone = |name: &str| format!("- {{name: {name}, chardev: [{{glob: {DEVICE}}}]}}\n");
    configure(&node, &[&shared, &alone(ALONE)])?;
    node.offers(SHARED, 3).await?;
    node.offers(ALONE, 1).await?;
    holder(&namespace, "one", SHARED, FUSE).await?;
    holder(&namespace, "two", SHARED, FUSE).await?;
    holder(&namespace, "holder", ALONE, DEVICE).await?;

    // To the kubelet the device's new name is free. The plugin knows better,
    // and a mistake in between changes nothing.
    configure(&node, &["- {name: oops}\n"])?;
    configure(&node, &[&shared, &alone(MOVED)])?;
    node.offers(ALONE, 0).await?;
    node.offers(MOVED, 0).await?;
    // Until the kubelet no longer lists it as in use.
    gone(&namespace, "holder").await?;
    node.offers(MOVED, 1).await?;
    holder(&namespace, "later", MOVED, DEVICE).await?;

    node.offers(SHARED, 3).await?;
    configure(&node, &[])?;
    node.offers(SHARED, 0).await?;
    for name in ["one", "two"] {
        let pod = namespace.pods().get(name).await?;
        assert!(
            pod.runs() && pod.restarts() == 0,
            "{name}: {:#?}",
            pod.status
        );
    }
    Ok(())
}

/// A VM's device is as scarce as the pod's, and is one that a guest can have or
/// ends the VM.
#[tokio::test]
async fn a_vm_waits_for_its_device_and_refuses_one_that_no_guest_can_have() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((node, namespace, _root)) = Box::pin(place(&cluster, "power-button")).await? else {
        return Ok(());
    };
    let name = "example.com/late";
    let devices = json!({"devices": [{"name": "gpu", "resource": name}]});
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", devices)).await?;
    let waits = vm.wait("waits for its device", |status| {
        condition(status, ConditionType::Scheduled)
            .is_some_and(|scheduled| scheduled.reason == "DeviceNotOffered")
    });
    let waits = waits.await?;
    let scheduled = condition(&waits, ConditionType::Scheduled).context("it was there")?;
    ensure!(scheduled.status == "False", "{scheduled:?}");
    ensure!(
        scheduled.message.contains("\"gpu\" (example.com/late)"),
        "{scheduled:?}"
    );
    ensure!(waits.phase == Some(Phase::Scheduling), "{:?}", waits.phase);

    // A plugin offers it; it is a character device, and no guest can have one.
    let _nodes = DeviceNodes::named("late", 1)?;
    let glob = DeviceNodes::glob("late");
    let line = format!("- {{name: {name}, chardev: [{{glob: \"{glob}\"}}]}}\n");
    let _plugin = OwnPlugin::start(&node, "late", &line, &[])?;
    let ended = vm.wait("ends for want of a device", |status| {
        let last = status.last_termination.as_ref();
        last.is_some_and(|last| last.reason == "DeviceUnavailable")
    });
    let last = ended.await?.last_termination.context("it was there")?;
    for part in [
        "gpu",
        "CORACLE_DEVICE_EXAMPLE_COM_LATE names \"coracle-e2e-",
        "no PCI function, mediated device or USB device",
    ] {
        ensure!(last.message.contains(part), "{part}: {last:?}");
    }
    ensure!(last.exit_code == Some(3), "{last:?}");
    vm.phase_is(Phase::Failed).await?;
    Ok(())
}
