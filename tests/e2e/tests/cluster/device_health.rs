//! What a pod and its node are told of the health of devices (Kubernetes'
//! `test/e2e_node/device_plugin_failures_test.go` and
//! `device_plugin_failures_pod_status_test.go`).

use std::time::Duration;

use anyhow::{Context, ensure};
use coracle_e2e::{
    Cluster, DeviceNodes, Namespace, Node, OwnPlugin, PATIENCE, PodFacts, plain_pod, until_within,
    wait_for,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, LogParams, PostParams};
use serde_json::json;

use crate::devices::configure;

const BUSYBOX: &str = "coracle.dev/e2e-busybox:1";
const RESOURCE: &str = "example.com/health";

/// Longer than the kubelet remembers the devices of a plugin that is gone: five
/// minutes, and tests that restart it in between.
const GRACE: Duration = Duration::from_secs(1800);

/// What the pod's status says of its device.
fn health<'a>(pod: Option<&'a Pod>, resource: &str) -> Option<&'a str> {
    let all = pod?.container()?.allocated_resources_status.as_ref()?;
    let resource = all.iter().find(|status| status.name == resource)?;
    let device = resource.resources.as_ref()?.first()?;
    device.health.as_deref()
}

#[tokio::test]
async fn will_report_a_pod_s_device_status_as_healthy_then_unhealthy_and_lower_allocatable()
-> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let nodes = DeviceNodes::named("health", 2)?;
    let glob = DeviceNodes::glob("health");
    let resource = format!("- {{name: {RESOURCE}, chardev: [{{glob: \"{glob}\"}}]}}\n");
    configure(&node, &[&resource])?;
    node.offers(RESOURCE, 2).await?;

    let namespace = Namespace::new(&cluster).await?;
    let pods = namespace.pods();
    let script = "echo $CORACLE_DEVICE_EXAMPLE_COM_HEALTH; exec sleep 3600";
    let command = ["sh", "-c", script];
    let pod = plain_pod("holder", BUSYBOX, &command, json!({RESOURCE: "1"}));
    pods.create(&PostParams::default(), &pod).await?;
    let healthy = |pod: Option<&Pod>| health(pod, RESOURCE) == Some("Healthy");
    let unhealthy = |pod: Option<&Pod>| health(pod, RESOURCE) == Some("Unhealthy");
    // The device is told before the container's start.
    let runs = |pod: Option<&Pod>| pod.is_some_and(PodFacts::runs) && healthy(pod);
    wait_for(&pods, "holder", "it runs with a healthy device", runs).await?;
    let id = pods.logs("holder", &LogParams::default()).await?;
    let device = nodes.find(id.trim())?;

    std::fs::remove_file(device)?;
    wait_for(&pods, "holder", "its device is unhealthy", unhealthy).await?;
    node.offers(RESOURCE, 1).await?;
    nodes.make(device)?;
    wait_for(&pods, "holder", "its device is healthy again", healthy).await?;
    node.offers(RESOURCE, 2).await?;

    let now = pods.get("holder").await?;
    assert!(now.runs() && now.restarts() == 0, "{:#?}", now.status);
    configure(&node, &[])?;
    node.offers(RESOURCE, 0).await
}

/// The resources of plugins that end.
const ENDED: [&str; 2] = ["example.com/killed", "example.com/stopped"];

/// A line of the configuration file for devices that one pod has at a time.
fn resource(name: &str, glob: &str) -> String {
    format!("- {{name: example.com/{name}, chardev: [{{glob: \"{glob}\"}}]}}\n")
}

/// Kubernetes' "when `ListAndWatch` fails after provisioning devices, node
/// allocatable will be set to zero and kubelet will not retry to list
/// resources": a killed plugin breaks its stream off. And "when device plugin
/// is stopped after provisioning devices, node allocatable will be set to
/// zero". Returns the devices, which must be there until the kubelet has
/// forgotten them, as it does later.
async fn plugins_end(node: &Node) -> anyhow::Result<Vec<DeviceNodes>> {
    let mut plugins = vec![];
    let mut all = vec![];
    for name in ["killed", "stopped"] {
        all.push(DeviceNodes::named(name, 2)?);
        let line = resource(name, &DeviceNodes::glob(name));
        plugins.push(OwnPlugin::start(node, name, &line, &[])?);
    }
    for resource in ENDED {
        node.offer_is(resource, (2, 2), PATIENCE).await?;
    }
    plugins.pop().context("two plugins")?.stop()?;
    drop(plugins);
    for resource in ENDED {
        node.offer_is(resource, (0, 2), PATIENCE).await?;
    }
    Ok(all)
}

/// Waits until the kubelet has forgotten them; others may disturb the node
/// meanwhile, and then it is not asked.
async fn plugins_are_forgotten(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    for resource in ENDED {
        let what = format!("{resource}: capacity is 0");
        until_within(GRACE, &what, async || {
            let _shared = cluster.shared().await;
            Ok((node.offer(resource).await? == Some((0, 0))).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// Kubernetes' "will set allocatable to zero when a single device became
/// unhealthy, but capacity will stay at 1", beside plugins that end: what
/// becomes of theirs after five minutes does not become of it.
#[tokio::test]
async fn will_set_allocatable_to_zero_when_a_single_device_became_unhealthy_but_capacity_will_stay_at_1()
-> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let shared = cluster.shared().await;
    let name = "example.com/single";
    let nodes = DeviceNodes::named("single", 1)?;
    let device = nodes.paths().first().context("a device")?;
    let line = resource("single", &device.display().to_string());
    let _plugin = OwnPlugin::start(&node, "single", &line, &[])?;
    node.offer_is(name, (1, 1), PATIENCE).await?;

    let namespace = Namespace::new(&cluster).await?;
    let pods = namespace.pods();
    let pod = plain_pod("single", BUSYBOX, &["sleep", "3600"], json!({name: "1"}));
    pods.create(&PostParams::default(), &pod).await?;
    let runs = |pod: Option<&Pod>| pod.is_some_and(PodFacts::runs);
    wait_for(&pods, "single", "it runs", runs).await?;
    ensure!(node.offer(name).await? == Some((1, 1)), "a pod changed it");
    std::fs::remove_file(device)?;
    node.offer_is(name, (0, 1), PATIENCE).await?;
    let now = pods.get("single").await?;
    ensure!(now.runs() && now.restarts() == 0, "{:#?}", now.status);
    pods.delete("single", &DeleteParams::default()).await?;
    wait_for(&pods, "single", "gone", |pod: Option<&Pod>| pod.is_none()).await?;
    let _devices = Box::pin(plugins_end(&node)).await?;
    drop(shared);
    Box::pin(plugins_are_forgotten(&cluster, &node)).await?;
    let _shared = cluster.shared().await;
    node.offer_is(name, (0, 1), PATIENCE).await?;
    nodes.make(device)?;
    node.offer_is(name, (1, 1), PATIENCE).await
}

#[tokio::test]
async fn will_report_a_device_status_for_the_failed_pod_in_the_pod_status() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let name = "example.com/failed";
    let nodes = DeviceNodes::named("failed", 1)?;
    let device = nodes.paths().first().context("a device")?;
    let line = resource("failed", &DeviceNodes::glob("failed"));
    let _plugin = OwnPlugin::start(&node, "failed", &line, &[])?;
    node.offer_is(name, (1, 1), PATIENCE).await?;

    let namespace = Namespace::new(&cluster).await?;
    let pods = namespace.pods();
    let mut pod = plain_pod(
        "failed",
        "coracle.dev/absent:1",
        &["true"],
        json!({name: "1"}),
    );
    let containers = pod.spec.as_mut().map(|spec| &mut spec.containers);
    for container in containers.into_iter().flatten() {
        container.image_pull_policy = Some("Never".into());
    }
    pods.create(&PostParams::default(), &pod).await?;
    let is = |pod: Option<&Pod>, wanted| {
        pod.is_some_and(|pod| !pod.runs() && health(Some(pod), name) == Some(wanted))
    };
    let healthy = |pod: Option<&Pod>| is(pod, "Healthy");
    let unhealthy = |pod: Option<&Pod>| is(pod, "Unhealthy");
    wait_for(&pods, "failed", "has a healthy device", healthy).await?;
    std::fs::remove_file(device)?;
    wait_for(&pods, "failed", "its device is unhealthy", unhealthy).await?;
    Ok(())
}
