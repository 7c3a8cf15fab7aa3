//! Scenarios of Kubernetes' own node tests for device plugins (its
//! `test/e2e_node/device_plugin_test.go` and `device_manager_test.go`), under
//! their names: a pod keeps its device, or is told that it has none.

use anyhow::{Context, ensure};
use coracle_api::names::RESOURCE_KVM;
use coracle_e2e::{
    Cluster, Component, DeviceNodes, KVM_COUNT, Namespace, Node, OwnPlugin, PATIENCE, PodFacts,
    plain_pod, until, wait_for,
};
use coracle_tests::skip;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{DeleteParams, LogParams, PostParams};
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

/// A line of the configuration file for the devices of a name.
fn resource(name: &str) -> String {
    let glob = DeviceNodes::glob(name);
    format!("- {{name: example.com/{name}, chardev: [{{glob: \"{glob}\"}}]}}\n")
}

#[tokio::test]
async fn can_make_a_cdi_device_accessible_in_a_container() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    if node.runtime().await?.starts_with("containerd://1.") {
        skip("the container runtime has CDI switched off");
        return Ok(());
    }
    let name = "example.com/cdi";
    let _nodes = DeviceNodes::named("cdi", 2)?;
    let by_cdi = ["--cdi-dir", "/var/run/cdi"];
    let _plugin = OwnPlugin::start(&node, "cdi", &resource("cdi"), &by_cdi)?;
    node.offer_is(name, (2, 2), PATIENCE).await?;
    // One of the two, the one that the variable names, open to any user.
    let glob = DeviceNodes::glob("cdi");
    let script = format!(
        "set -- {glob} && [ $# = 1 ] && [ $1 = /dev/$CORACLE_DEVICE_EXAMPLE_COM_CDI ] && \
         exec 3<>$1"
    );
    let namespace = Namespace::new(&cluster).await?;
    let pods = namespace.pods();
    let pod = plain_pod("cdi", BUSYBOX, &["sh", "-c", &script], json!({name: "1"}));
    pods.create(&PostParams::default(), &pod).await?;
    let ended = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.exit_code().is_some());
    let ended = wait_for(&pods, "cdi", "ended", ended).await?;
    let ended = ended.unwrap_or_default();
    ensure!(ended.exit_code() == Some(0), "{:#?}", ended.status);
    Ok(())
}

/// Kubernetes' `[OrphanedPods]`.
#[tokio::test]
async fn ensures_pods_consuming_devices_deleted_while_kubelet_is_down_are_cleaned_up_correctly()
-> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let name = "example.com/orphan";
    let _nodes = DeviceNodes::named("orphan", 1)?;
    let _plugin = OwnPlugin::start(&node, "orphan", &resource("orphan"), &[])?;
    node.offer_is(name, (1, 1), PATIENCE).await?;
    let namespace = Namespace::new(&cluster).await?;
    let pods = namespace.pods();
    let runs = |pod: Option<&Pod>| pod.is_some_and(PodFacts::runs);
    let command = ["sleep", "3600"];
    let pod = plain_pod("orphan", BUSYBOX, &command, json!({name: "1"}));
    pods.create(&PostParams::default(), &pod).await?;
    let orphan = wait_for(&pods, "orphan", "runs", runs).await?;
    let orphan = orphan.context("it is there")?;

    node.kill(Component::Kubelet).await?;
    let at_once = DeleteParams::default().grace_period(0);
    let deleted = pods.delete("orphan", &at_once).await;
    node.start(Component::Kubelet).await?;
    deleted?;
    let gone = |pod: Option<&Pod>| pod.is_none();
    wait_for(&pods, "orphan", "gone", gone).await?;
    until("its container is gone", async || {
        Ok(node.container_spec(&orphan).await.is_err().then_some(()))
    })
    .await?;
    // Its device, of which there is one, can be had again.
    node.offer_is(name, (1, 1), PATIENCE).await?;
    let pod = plain_pod("next", BUSYBOX, &command, json!({name: "1"}));
    pods.create(&PostParams::default(), &pod).await?;
    wait_for(&pods, "next", "runs", runs).await?;
    Ok(())
}

#[tokio::test]
async fn can_schedule_a_pod_with_a_restartable_init_container() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let name = "example.com/init";
    let _nodes = DeviceNodes::named("init", 2)?;
    let _plugin = OwnPlugin::start(&node, "init", &resource("init"), &[])?;
    node.offer_is(name, (2, 2), PATIENCE).await?;
    let script = |rest: &str| {
        let variable = "$CORACLE_DEVICE_EXAMPLE_COM_INIT";
        format!("exec 3<>/dev/{variable} && echo {variable} && {rest}")
    };
    let ends = script("exit 0");
    let stays = script("exec sleep 3600");
    let limits = json!({name: "1"});
    let mut pod = plain_pod("init", BUSYBOX, &["sh", "-c", &stays], limits);
    let spec = pod.spec.as_mut().context("it has a spec")?;
    let main = spec
        .containers
        .first()
        .context("it has a container")?
        .clone();
    let container = |name: &str, script: &str, policy: Option<&str>| Container {
        name: name.to_owned(),
        command: Some(vec!["sh".into(), "-c".into(), script.to_owned()]),
        restart_policy: policy.map(str::to_owned),
        ..main.clone()
    };
    spec.init_containers = Some(vec![
        container("init", &ends, None),
        container("restartable", &stays, Some("Always")),
    ]);
    let namespace = Namespace::new(&cluster).await?;
    let pods = namespace.pods();
    pods.create(&PostParams::default(), &pod).await?;
    let runs = |pod: Option<&Pod>| pod.is_some_and(PodFacts::runs);
    wait_for(&pods, "init", "runs", runs).await?;
    let device = async |container: &str| {
        let parameters = LogParams {
            container: Some(container.to_owned()),
            ..LogParams::default()
        };
        until("it has opened its device", async || {
            let log = pods.logs("init", &parameters).await.unwrap_or_default();
            let device = log.trim().to_owned();
            Ok((!device.is_empty()).then_some(device))
        })
        .await
    };
    let (init, restartable) = (device("init").await?, device("restartable").await?);
    let main = device("main").await?;
    // What the first had goes on; those that run have one each.
    ensure!(restartable != main, "{main} given twice");
    ensure!(init == restartable || init == main, "{init} is another");
    Ok(())
}
