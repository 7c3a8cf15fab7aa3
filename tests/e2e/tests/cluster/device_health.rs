//! What a pod and its node are told of the health of devices (Kubernetes'
//! `test/e2e_node/device_plugin_failures_test.go` and
//! `device_plugin_failures_pod_status_test.go`).

use std::path::PathBuf;

use anyhow::Context;
use coracle_e2e::{Cluster, Namespace, PodFacts, plain_pod, wait_for};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{LogParams, PostParams};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use crate::devices::configure;

const BUSYBOX: &str = "coracle.dev/e2e-busybox:1";
const RESOURCE: &str = "example.com/health";

/// Device nodes of this test's own in /dev, gone with it. They are those of
/// /dev/null: what they do is no matter.
struct Nodes([PathBuf; 2]);

impl Nodes {
    fn new() -> anyhow::Result<Self> {
        let name = |which| format!("/dev/coracle-e2e-{}-{which}", std::process::id());
        let nodes = Self(["a", "b"].map(|which| name(which).into()));
        for path in &nodes.0 {
            make(path)?;
        }
        Ok(nodes)
    }

    fn glob() -> String {
        format!("/dev/coracle-e2e-{}-*", std::process::id())
    }

    /// The one that a container was given, by its variable.
    fn find(&self, id: &str) -> anyhow::Result<&PathBuf> {
        let mut nodes = self.0.iter();
        let found = nodes.find(|path| path.file_name().is_some_and(|name| name == id));
        found.with_context(|| format!("{id:?} is none of {:?}", self.0))
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn make(path: &PathBuf) -> anyhow::Result<()> {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    mknod(path, SFlag::S_IFCHR, mode, makedev(1, 3)).context("makes a device node")
}

/// What the pod's status says of its device.
fn health(pod: Option<&Pod>) -> Option<&str> {
    let all = pod?.container()?.allocated_resources_status.as_ref()?;
    let resource = all.iter().find(|status| status.name == RESOURCE)?;
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
    let nodes = Nodes::new()?;
    let glob = Nodes::glob();
    let resource = format!("- {{name: {RESOURCE}, chardev: [{{glob: \"{glob}\"}}]}}\n");
    configure(&node, &[&resource])?;
    node.offers(RESOURCE, 2).await?;

    let namespace = Namespace::new(&cluster).await?;
    let pods = namespace.pods();
    let script = "echo $CORACLE_DEVICE_EXAMPLE_COM_HEALTH; exec sleep 3600";
    let command = ["sh", "-c", script];
    let pod = plain_pod("holder", BUSYBOX, &command, json!({RESOURCE: "1"}));
    pods.create(&PostParams::default(), &pod).await?;
    let healthy = |pod: Option<&Pod>| health(pod) == Some("Healthy");
    let unhealthy = |pod: Option<&Pod>| health(pod) == Some("Unhealthy");
    // The device is told before the container's start.
    let runs = |pod: Option<&Pod>| pod.is_some_and(PodFacts::runs) && healthy(pod);
    wait_for(&pods, "holder", "it runs with a healthy device", runs).await?;
    let id = pods.logs("holder", &LogParams::default()).await?;
    let device = nodes.find(id.trim())?;

    std::fs::remove_file(device)?;
    wait_for(&pods, "holder", "its device is unhealthy", unhealthy).await?;
    node.offers(RESOURCE, 1).await?;
    make(device)?;
    wait_for(&pods, "holder", "its device is healthy again", healthy).await?;
    node.offers(RESOURCE, 2).await?;

    let now = pods.get("holder").await?;
    assert!(now.runs() && now.restarts() == 0, "{:#?}", now.status);
    configure(&node, &[])?;
    node.offers(RESOURCE, 0).await
}
