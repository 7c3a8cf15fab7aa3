//! Scenarios of Kubernetes' own node tests for device plugins (its
//! `test/e2e_node/device_plugin_test.go` and `device_manager_test.go`), under
//! their names: a pod keeps its device, or is told that it has none.

use anyhow::{Context, ensure};
use coracle_api::names::RESOURCE_KVM;
use coracle_e2e::{
    Cluster, Component, KVM_COUNT, Namespace, Node, PodFacts, plain_pod, until, wait_for,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{LogParams, PostParams};
use serde_json::json;

use crate::device_plugin::sleeper;

const BUSYBOX: &str = "coracle.dev/e2e-busybox:1";
const NAME: &str = "holder";

/// A pod that says which slot it has, and opens the device, whenever its
/// container starts.
struct Holder<'a> {
    node: &'a Node,
    namespace: &'a Namespace,
    slot: String,
}

impl<'a> Holder<'a> {
    async fn new(node: &'a Node, namespace: &'a Namespace) -> anyhow::Result<Self> {
        let script = "echo slot $CORACLE_DEVICE_CORACLE_DEV_KVM; \
                      exec 3<>/dev/kvm && echo open && exec sleep 3600";
        let mut pod = plain_pod(
            NAME,
            BUSYBOX,
            &["sh", "-c", script],
            json!({RESOURCE_KVM: "1"}),
        );
        let spec = pod.spec.as_mut().context("it has a spec")?;
        spec.restart_policy = Some("Always".into());
        namespace
            .pods()
            .create(&PostParams::default(), &pod)
            .await?;
        let slot = String::new();
        let mut holder = Self {
            node,
            namespace,
            slot,
        };
        holder.slot = holder.says(0).await?;
        ensure!(holder.slot.starts_with("slot kvm-"), "{}", holder.slot);
        Ok(holder)
    }

    async fn pod(&self) -> anyhow::Result<Pod> {
        Ok(self.namespace.pods().get(NAME).await?)
    }

    /// What its container says, once it runs for the time after so many.
    async fn says(&self, restarts: i32) -> anyhow::Result<String> {
        let pods = self.namespace.pods();
        wait_for(&pods, NAME, "runs again", |pod: Option<&Pod>| {
            pod.is_some_and(|pod| pod.runs() && pod.restarts() >= restarts)
        })
        .await?;
        until("it has opened its device", async || {
            // Not there for a moment while the container starts.
            let log = pods.logs(NAME, &LogParams::default()).await;
            let log = log.unwrap_or_default();
            let slot = log.strip_suffix("open\n").map(str::trim);
            Ok(slot.map(str::to_owned))
        })
        .await
    }

    /// Restarts its container, which must find the slot that it had.
    async fn restart(&self) -> anyhow::Result<()> {
        let before = self.pod().await?;
        self.node.kill_container(&before).await?;
        let slot = self.says(before.restarts() + 1).await?;
        ensure!(slot == self.slot, "{slot} after {}", self.slot);
        ensure!(self.pod().await?.metadata.uid == before.metadata.uid);
        Ok(())
    }

    /// Nobody else may be given its slot.
    async fn is_not_shared(&self) -> anyhow::Result<()> {
        let script = ["sh", "-c", "echo slot $CORACLE_DEVICE_CORACLE_DEV_KVM"];
        let other = plain_pod("other", BUSYBOX, &script, json!({RESOURCE_KVM: "1"}));
        let pods = self.namespace.pods();
        pods.create(&PostParams::default(), &other).await?;
        let ended = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.exit_code().is_some());
        wait_for(&pods, "other", "ended", ended).await?;
        let slot = pods.logs("other", &LogParams::default()).await?;
        ensure!(slot.trim() != self.slot, "{slot} given twice");
        Ok(())
    }
}

/// What is restarted before the container is.
async fn keeps_its_assignment_across(components: &[Component]) -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let holder = Holder::new(&node, &namespace).await?;
    for component in components {
        node.kill(*component).await?;
    }
    for component in components {
        node.start(*component).await?;
    }
    node.allocatable_is(KVM_COUNT).await?;
    holder.restart().await?;
    holder.is_not_shared().await
}

#[tokio::test]
async fn keeps_device_plugin_assignments_across_pod_restarts() -> anyhow::Result<()> {
    Box::pin(keeps_its_assignment_across(&[])).await
}

#[tokio::test]
async fn keeps_device_plugin_assignments_across_pod_and_kubelet_restarts() -> anyhow::Result<()> {
    Box::pin(keeps_its_assignment_across(&[Component::Kubelet])).await
}

#[tokio::test]
async fn keeps_device_plugin_assignments_after_the_device_plugin_has_restarted()
-> anyhow::Result<()> {
    Box::pin(keeps_its_assignment_across(&[Component::DevicePlugin])).await
}

#[tokio::test]
async fn keeps_device_plugin_assignments_after_kubelet_restart_and_device_plugin_restart()
-> anyhow::Result<()> {
    Box::pin(keeps_its_assignment_across(&[
        Component::Kubelet,
        Component::DevicePlugin,
    ]))
    .await
}

#[tokio::test]
async fn will_not_attempt_to_admit_the_succeeded_pod_after_the_kubelet_restart_and_device_plugin_removed()
-> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let pods = namespace.pods();
    let done = plain_pod(
        "done",
        BUSYBOX,
        &["sh", "-c", "exit 0"],
        json!({RESOURCE_KVM: "1"}),
    );
    pods.create(&PostParams::default(), &done).await?;
    let succeeded = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.phase() == "Succeeded");
    wait_for(&pods, "done", "succeeds", succeeded).await?;
    node.stop(Component::DevicePlugin).await?;
    node.kill(Component::Kubelet).await?;
    node.start(Component::Kubelet).await?;
    node.allocatable_is(0).await?;
    // A kubelet that has come as far as a new pod has looked at the old one.
    let later = plain_pod("later", BUSYBOX, &["sh", "-c", "exit 0"], json!({}));
    pods.create(&PostParams::default(), &later).await?;
    wait_for(&pods, "later", "succeeds", succeeded).await?;
    let after = pods.get("done").await?;
    node.start(Component::DevicePlugin).await?;
    node.allocatable_is(KVM_COUNT).await?;
    ensure!(after.phase() == "Succeeded", "{:#?}", after.status);
    Ok(())
}

/// As after a boot: the containers are gone, and the kubelet is there before
/// the plugin. The pod cannot be saved, and the next one must not suffer.
#[tokio::test]
async fn does_not_keep_device_plugin_assignments_across_node_reboots_if_fails_admission()
-> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let holder = Holder::new(&node, &namespace).await?;
    let before = holder.pod().await?;
    node.kill(Component::Kubelet).await?;
    node.kill(Component::DevicePlugin).await?;
    node.kill_container(&before).await?;
    node.start(Component::Kubelet).await?;
    let pods = namespace.pods();
    let failed = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.phase() == "Failed");
    let failed = wait_for(&pods, NAME, "fails admission", failed).await;
    node.start(Component::DevicePlugin).await?;
    node.allocatable_is(KVM_COUNT).await?;
    let failed = failed?.unwrap_or_default();
    ensure!(
        failed.reason() == Some("UnexpectedAdmissionError"),
        "{:#?}",
        failed.status
    );
    Box::pin(sleeper(&namespace, "after")).await?;
    Ok(())
}
