//! Two nodes: which of them a VM comes to, and what becomes of it when its node
//! is lost. Whatever happens, no two guests are on one disk.
//!
//! The disk of these guests can be used from both nodes, and it is shareable:
//! the shim does not hold it, so nothing but the controller keeps two guests
//! apart. The guests would notice each other, and their logbook would show it.

use coracle_api::names::{ANNOTATION_RESTART, RESOURCE_KVM};
use coracle_api::vm::{ConditionType, Phase};
use coracle_e2e::{
    BlockVolume, Cluster, Component, KVM_COUNT, Machine, Namespace, Node, Reach, SecondNode, VmPod,
    condition, goes_on, place, vm_object,
};
use coracle_tests::Logbook;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

/// More than two seconds' worth, and less than the logbook remembers.
const MANY: u32 = 40;

/// A guest that runs on the second node, and may run on the first.
struct Placed {
    first: Node,
    namespace: Namespace,
    disk: BlockVolume,
    vm: Machine,
    pod: VmPod,
    before: Pod,
    // Last: the node is switched off when all else is gone.
    second: SecondNode,
}

impl Placed {
    async fn new(cluster: &Cluster, tolerations: &[Value]) -> anyhow::Result<Option<Self>> {
        let Some(first) = cluster.node_with_controller().await? else {
            return Ok(None);
        };
        let Some(second) = SecondNode::on(cluster).await? else {
            return Ok(None);
        };
        let namespace = Namespace::new(cluster).await?;
        let reach = Reach::Both(&first, second.node());
        let disk = BlockVolume::reaching(reach, &namespace, "root", "logbook").await?;
        second.place(&namespace, second.node()).await?;
        let mut all = vec![second.toleration()];
        all.extend_from_slice(tolerations);
        let fields = json!({
            "nodeSelector": {place(&namespace): "here"},
            "tolerations": all,
            "disks": [{
                "name": "root", "bootOrder": 1, "claim": {"name": "root"}, "shareable": true,
            }],
        });
        let vm = Machine::apply(cluster, &namespace, &vm_object("web", fields)).await?;
        let pod = vm.runs(1).await?;
        pod.says("guest ready").await?;
        let before = pod.get().await?;
        Ok(Some(Self {
            first,
            namespace,
            disk,
            vm,
            pod,
            before,
            second,
        }))
    }

    /// Its next pod is to be on the first node.
    async fn moves(&self) -> anyhow::Result<()> {
        self.second.place(&self.namespace, &self.first).await
    }

    /// The one pod of the VM is the one that it was.
    async fn is_alone(&self) -> anyhow::Result<()> {
        let pods = self.namespace.pods().list(&ListParams::default()).await?;
        let names: Vec<_> = pods.iter().map(|pod| &pod.metadata.name).collect();
        assert_eq!(names, [&Some(self.pod.name.clone())]);
        goes_on(&self.before, &self.pod.get().await?)
    }

    /// The VM's condition `Ready` becomes so.
    async fn ready_is(&self, status: &str, reason: &str) -> anyhow::Result<()> {
        let what = format!("Ready is {status}: {reason}");
        let is = self.vm.wait(&what, |vm| {
            condition(vm, ConditionType::Ready)
                .is_some_and(|ready| ready.status == status && ready.reason == reason)
        });
        assert_eq!(is.await?.phase, Some(Phase::Running));
        Ok(())
    }

    /// The guest of this boot goes on writing.
    async fn writes(&self, boots: u32) -> anyhow::Result<()> {
        let logbook = self.disk.advances(MANY).await?;
        assert_eq!(logbook.boots, boots);
        Ok(())
    }

    /// It runs in its second pod, on this node; then it ends, and its disk is
    /// right.
    async fn runs_again_on(&self, node: &Node) -> anyhow::Result<()> {
        let pod = self.vm.runs(2).await?;
        pod.says("guest ready").await?;
        let there = pod.get().await?.spec.and_then(|spec| spec.node_name);
        assert_eq!(there.as_deref(), Some(node.name()));
        self.writes(2).await?;
        self.vm.delete(&pod).await?;
        let logbook = Logbook::read(&self.disk.disk.read()?)?;
        assert_eq!(logbook.boots, 2);
        Ok(())
    }
}

#[tokio::test]
async fn a_vm_comes_only_to_a_node_with_kvm_and_says_so_where_there_is_none() -> anyhow::Result<()>
{
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(_plugin) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let Some(first) = cluster.node_with_controller().await? else {
        return Ok(());
    };
    let Some(second) = SecondNode::on(&cluster).await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let mut disks = vec![];
    for claim in ["any", "bound"] {
        let reach = Reach::Both(&first, second.node());
        disks.push(BlockVolume::reaching(reach, &namespace, claim, "power-button").await?);
    }
    let fields = |claim: &str| {
        json!({
            "accelerator": "Kvm",
            "tolerations": [second.toleration()],
            "disks": [{"name": "root", "bootOrder": 1, "claim": {"name": claim}}],
        })
    };
    // The second node has nothing else to do.
    let any = Machine::apply(&cluster, &namespace, &vm_object("any", fields("any"))).await?;
    any.runs(1).await?;
    let status = any.phase_is(Phase::Running).await?;
    assert_eq!(status.node_name.as_deref(), Some(first.name()));

    let mut bound = fields("bound");
    bound["nodeSelector"] = json!({"kubernetes.io/hostname": second.node().name()});
    let bound = Machine::apply(&cluster, &namespace, &vm_object("bound", bound)).await?;
    let waits = bound.wait("is unschedulable for want of KVM", |status| {
        condition(status, ConditionType::Scheduled).is_some_and(|scheduled| {
            scheduled.reason == "KvmUnavailable" && scheduled.message.contains(RESOURCE_KVM)
        })
    });
    assert_eq!(waits.await?.phase, Some(Phase::Scheduling));

    second.node().start(Component::DevicePlugin).await?;
    second.node().allocatable_is(KVM_COUNT).await?;
    bound.runs(1).await?;
    let status = bound.phase_is(Phase::Running).await?;
    assert_eq!(status.node_name.as_deref(), Some(second.node().name()));
    Ok(())
}

#[tokio::test]
async fn a_guest_runs_on_while_its_node_is_cut_off_and_after() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(placed) = Placed::new(&cluster, &[]).await? else {
        return Ok(());
    };
    placed.second.cut().await?;
    placed.ready_is("Unknown", "NodeUnreachable").await?;
    placed.writes(1).await?;
    placed.is_alone().await?;
    placed.second.heal().await?;
    placed.ready_is("True", "AsExpected").await?;
    placed.pod.says("guest ready").await?;
    placed.vm.runs(1).await?;
    placed.writes(1).await?;
    placed.is_alone().await?;
    placed.vm.delete(&placed.pod).await?;
    assert_eq!(Logbook::read(&placed.disk.disk.read()?)?.boots, 1);
    Ok(())
}

#[tokio::test]
async fn a_vm_of_a_lost_node_starts_elsewhere_once_the_node_is_out_of_service() -> anyhow::Result<()>
{
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let soon = json!({
        "key": "node.kubernetes.io/unreachable", "operator": "Exists",
        "effect": "NoExecute", "tolerationSeconds": 1,
    });
    let Some(placed) = Placed::new(&cluster, &[soon]).await? else {
        return Ok(());
    };
    placed.moves().await?;
    placed.second.cut().await?;
    let evicted = placed
        .pod
        .wait("evicted", |pod| pod.metadata.deletion_timestamp.is_some());
    evicted.await?;
    // Everything asks for a new pod now. The old one cannot be asked.
    placed.vm.annotate(ANNOTATION_RESTART, "now").await?;
    placed.writes(1).await?;
    let status = placed.vm.phase_is(Phase::Stopping).await?;
    assert_eq!(status.incarnation, Some(1));
    placed.is_alone().await?;

    placed.second.power_off().await?;
    placed.is_alone().await?;
    placed.second.out_of_service().await?;
    placed.runs_again_on(&placed.first).await
}

#[tokio::test]
async fn a_vm_of_a_node_that_was_deleted_starts_elsewhere() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(placed) = Placed::new(&cluster, &[]).await? else {
        return Ok(());
    };
    placed.moves().await?;
    placed.second.power_off().await?;
    let delete = ["delete", "node", placed.second.node().name()];
    cluster.kubectl.run(&delete).await?;
    placed.runs_again_on(&placed.first).await
}

#[tokio::test]
async fn a_vm_of_a_node_that_lost_its_power_starts_again_when_the_node_is_back()
-> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(placed) = Placed::new(&cluster, &[]).await? else {
        return Ok(());
    };
    placed.second.power_off().await?;
    placed.second.power_on().await?;
    placed.runs_again_on(placed.second.node()).await
}
