//! The device plugin and the real kubelet.

use anyhow::ensure;
use coracle_api::names::RESOURCE_KVM;
use coracle_e2e::{
    Cluster, Component, KVM_COUNT, Namespace, PodFacts, goes_on, plain_pod, wait_for,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, LogParams, PostParams};
use serde_json::json;

const PLUGIN_IMAGE: &str = concat!("coracle.dev/device-plugin:", env!("CARGO_PKG_VERSION"));
const BUSYBOX: &str = "coracle.dev/e2e-busybox:1";

/// A pod that has `/dev/kvm` open and sleeps. One that the kubelet refuses
/// because it has not heard of the plugin yet is made again, as a controller
/// would.
pub(crate) async fn sleeper(namespace: &Namespace, name: &str) -> anyhow::Result<Pod> {
    let command = ["sh", "-c", "exec 3<>/dev/kvm && exec sleep 3600"];
    let pods = namespace.pods();
    loop {
        let pod = plain_pod(name, BUSYBOX, &command, json!({RESOURCE_KVM: "1"}));
        pods.create(&PostParams::default(), &pod).await?;
        let settled = wait_for(&pods, name, "runs", |pod: Option<&Pod>| {
            pod.is_some_and(|pod| pod.runs() || pod.phase() == "Failed")
        });
        let settled = settled.await?.unwrap_or_default();
        if settled.runs() {
            return Ok(settled);
        }
        ensure!(
            settled.reason() == Some("UnexpectedAdmissionError"),
            "{:#?}",
            settled.status
        );
        pods.delete(name, &DeleteParams::default()).await?;
        wait_for(&pods, name, "gone", |pod: Option<&Pod>| pod.is_none()).await?;
    }
}

/// Whether a pod is the one it was, and its container never ended.
async fn still(namespace: &Namespace, before: &Pod) -> anyhow::Result<()> {
    let name = before.metadata.name.as_deref().unwrap_or_default();
    goes_on(before, &namespace.pods().get(name).await?)
}

#[tokio::test]
async fn a_restricted_pod_of_any_user_runs_guest_code_on_its_kvm() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some(_node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let namespace = Namespace::new(&cluster).await?;
    let command = [
        "/usr/bin/coracle-device-plugin",
        "probe",
        "--kvm-probe",
        "run",
    ];
    let pods = namespace.pods();
    for (name, limits, code) in [
        ("with", json!({RESOURCE_KVM: "1"}), 0),
        // Without the resource there is no device: the plugin is the way.
        ("without", json!({}), 1),
    ] {
        let pod = plain_pod(name, PLUGIN_IMAGE, &command, limits);
        pods.create(&PostParams::default(), &pod).await?;
        let ended = wait_for(&pods, name, "ended", |pod: Option<&Pod>| {
            pod.is_some_and(|pod| pod.exit_code().is_some())
        });
        let ended = ended.await?.unwrap_or_default();
        let said = pods.logs(name, &LogParams::default()).await?;
        assert_eq!(ended.exit_code(), Some(code), "{name}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_restarted_kubelet_gets_the_plugin_back_and_the_pod_goes_on() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let before = sleeper(&namespace, "before").await?;
    node.kill(Component::Kubelet).await?;
    node.start(Component::Kubelet).await?;
    // A pod that asks for the device is admitted only once the plugin has
    // registered; until then the scheduler sees none, or the kubelet none.
    node.allocatable_is(KVM_COUNT).await?;
    still(&namespace, &before).await?;
    sleeper(&namespace, "after").await?;
    still(&namespace, &before).await
}

#[tokio::test]
async fn a_restarted_plugin_registers_again_and_the_pod_goes_on() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let before = sleeper(&namespace, "before").await?;
    node.stop(Component::DevicePlugin).await?;
    node.allocatable_is(0).await?;
    node.start(Component::DevicePlugin).await?;
    node.allocatable_is(KVM_COUNT).await?;
    still(&namespace, &before).await?;
    sleeper(&namespace, "after").await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_plugin_takes_its_slots_along_until_it_is_back() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let before = sleeper(&namespace, "before").await?;
    node.kill(Component::DevicePlugin).await?;
    node.allocatable_is(0).await?;

    // It waits for the device, and says so.
    let pods = namespace.pods();
    let waiting = plain_pod(
        "waiting",
        BUSYBOX,
        &["sleep", "3600"],
        json!({RESOURCE_KVM: "1"}),
    );
    pods.create(&PostParams::default(), &waiting).await?;
    wait_for(
        &pods,
        "waiting",
        "unschedulable for want of KVM",
        |pod: Option<&Pod>| {
            let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
            conditions.into_iter().flatten().any(|condition| {
                let message = condition.message.as_deref().unwrap_or_default();
                condition.type_ == "PodScheduled" && message.contains(RESOURCE_KVM)
            })
        },
    )
    .await?;
    still(&namespace, &before).await?;

    node.start(Component::DevicePlugin).await?;
    node.allocatable_is(KVM_COUNT).await?;
    wait_for(&pods, "waiting", "runs", |pod: Option<&Pod>| {
        pod.is_some_and(PodFacts::runs)
    })
    .await?;
    still(&namespace, &before).await
}
