//! Who can be away while a guest runs: the controller, the kubelet,
//! containerd, the API server. And what takes the node away: a drain.

use coracle_api::vm::Phase;
use coracle_e2e::{
    BlockVolume, Cluster, Component, Machine, Namespace, Node, PodFacts, VmPod, goes_on, vm_object,
};
use k8s_openapi::api::core::v1::Pod;
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
    let end = [
        "exec",
        "-n",
        &namespace.name,
        &pod.name,
        "--",
        "coracle-shim",
        "kill",
        "KILL",
    ];
    cluster.kubectl.run(&end).await?;
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
    let state = [
        "exec",
        "-n",
        &running.namespace.name,
        &running.pod.name,
        "--",
        "coracle-shim",
        "state",
    ];
    coracle_e2e::until("the guest answers", async || {
        let said = cluster.kubectl.call(&state).await?;
        Ok((said.ok && said.stdout.contains("running")).then_some(()))
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
