//! Who can be away while a guest runs: the controller, the kubelet,
//! containerd, the API server. And what takes the node away: a drain.

use anyhow::Context;
use coracle_api::vm::Phase;
use coracle_e2e::{
    BlockVolume, Cluster, Component, Machine, Namespace, Node, PodFacts, VmPod, documents, goes_on,
    vm_object, wait_for,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::EvictParams;
use serde_json::json;

struct Running {
    namespace: Namespace,
    node: Node,
    vm: Machine,
    pod: VmPod,
    before: Pod,
    _root: BlockVolume,
}

impl Running {
    /// A guest that runs.
    async fn new(cluster: &Cluster) -> anyhow::Result<Option<Self>> {
        let Some(node) = cluster.node_with_controller().await? else {
            return Ok(None);
        };
        let namespace = Namespace::new(cluster).await?;
        let root = BlockVolume::new(&node, &namespace, "root", "power-button").await?;
        let vm = Machine::apply(cluster, &namespace, &vm_object("web", json!({}))).await?;
        let pod = vm.runs(1).await?;
        pod.says("guest ready").await?;
        let before = pod.get().await?;
        Ok(Some(Self {
            namespace,
            node,
            vm,
            pod,
            before,
            _root: root,
        }))
    }

    /// The guest is the one that it was.
    async fn goes_on(&self) -> anyhow::Result<()> {
        goes_on(&self.before, &self.pod.get().await?)
    }
}

/// A node that takes no pods. It takes them again when this is dropped, or
/// every other test would wait.
struct Drained<'a> {
    node: &'a str,
}

impl Drop for Drained<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("kubectl")
            .args(["uncordon", self.node])
            .stdout(std::process::Stdio::null())
            .status();
    }
}

#[tokio::test]
async fn a_killed_controller_leaves_the_guest_and_catches_up() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(running) = Running::new(&cluster).await? else {
        return Ok(());
    };
    running.node.kill(Component::Controller).await?;
    running.goes_on().await?;
    // What is asked for while it is away is done when it is back.
    let other = vm_object("halted", json!({"runPolicy": "Halted"}));
    let other = Machine::apply(&cluster, &running.namespace, &other).await?;
    running.node.start(Component::Controller).await?;
    other.phase_is(Phase::Stopped).await?;
    running.goes_on().await?;
    running.vm.run_policy("Halted").await?;
    running.pod.gone().await
}

#[tokio::test]
async fn a_guest_that_ends_without_a_controller_is_restarted_by_the_kubelet() -> anyhow::Result<()>
{
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(node) = cluster.node_with_controller().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let _root = BlockVolume::new(&node, &namespace, "root", "power-button").await?;
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", json!({}))).await?;
    let pod = vm.runs(1).await?;
    pod.says("guest ready").await?;
    node.kill(Component::Controller).await?;
    cluster
        .kubectl
        .shim(&namespace.name, &pod.name, &["kill", "KILL"])
        .await?;
    pod.wait("restarted", |pod| pod.restarts() == 1 && pod.runs())
        .await?;
    node.start(Component::Controller).await?;
    vm.runs(1).await?;
    Ok(())
}

#[tokio::test]
async fn each_of_the_clusters_programs_can_be_killed_while_a_guest_runs() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(running) = Running::new(&cluster).await? else {
        return Ok(());
    };
    for component in [
        Component::Kubelet,
        Component::Containerd,
        Component::ApiServer,
        Component::Etcd,
    ] {
        running.node.kill(component).await?;
        running.node.start(component).await?;
        coracle_e2e::until("the API answers", async || Ok(running.pod.get().await.ok())).await?;
        running.goes_on().await?;
    }
    // The console is still there, through all of them.
    coracle_e2e::until("the guest answers", async || {
        let said = cluster
            .kubectl
            .shim(&running.namespace.name, &running.pod.name, &["state"])
            .await;
        Ok(said
            .is_ok_and(|said| said.contains("running"))
            .then_some(()))
    })
    .await?;
    running.goes_on().await?;
    running.vm.delete(&running.pod).await
}

#[tokio::test]
async fn a_drain_shuts_the_guest_down_and_it_is_back_after() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(running) = Running::new(&cluster).await? else {
        return Ok(());
    };
    let name = running.node.name();
    let drained = Drained { node: name };
    // The pod's sockets are in an emptyDir, as every drain has to be told.
    let drain = [
        "drain",
        name,
        "--delete-emptydir-data",
        "--pod-selector=coracle.dev/vm",
    ];
    cluster.kubectl.run(&drain).await?;
    let waiting = running.vm.wait("has a new pod that waits", |status| {
        status.incarnation == Some(2) && status.phase == Some(Phase::Scheduling)
    });
    let last = waiting.await?.last_termination.map(|last| last.reason);
    assert_eq!(
        last.as_deref(),
        Some("Stopped"),
        "the guest was not shut down"
    );
    drop(drained);
    running.vm.runs(2).await?;
    Ok(())
}

/// What docs/operations.md advises, as it stands there: the budget's selector
/// is for a VM called `web`.
#[tokio::test]
async fn the_documented_budget_keeps_evictions_from_a_vm_and_a_stop_needs_none()
-> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(running) = Running::new(&cluster).await? else {
        return Ok(());
    };
    let mut objects = Vec::new();
    for block in documents::yaml_blocks("docs/operations.md")? {
        objects.extend(block.objects()?);
    }
    let budget = objects
        .into_iter()
        .find(|object| object["kind"] == "PodDisruptionBudget");
    let mut budget = budget.context("the guide shows a budget")?;
    budget["metadata"]["namespace"] = json!(running.namespace.name);
    cluster.kubectl.apply(&budget).await?;
    let budgets: Api<PodDisruptionBudget> = running.namespace.api();
    wait_for(&budgets, "web", "knows its pod", |budget| {
        let status = budget.and_then(|budget: &PodDisruptionBudget| budget.status.as_ref());
        status.is_some_and(|status| {
            status.current_healthy == Some(1) && status.expected_pods == Some(1)
        })
    })
    .await?;
    let pods = running.namespace.pods();
    let refused = pods.evict(&running.pod.name, &EvictParams::default()).await;
    let refused = refused
        .err()
        .context("the budget lets the pod be evicted")?;
    let said = refused.to_string();
    assert!(said.contains("disruption budget"), "{said}");
    running.goes_on().await?;
    // As a drain of its node would do, and is told what it lacks.
    let drain = [
        "drain",
        running.node.name(),
        "--dry-run=server",
        "--pod-selector=coracle.dev/vm",
    ];
    let told = cluster.kubectl.call(&drain).await?;
    assert!(
        !told.ok && told.stderr.contains("--delete-emptydir-data"),
        "{told:?}"
    );

    running.vm.run_policy("Halted").await?;
    running.pod.gone().await
}
