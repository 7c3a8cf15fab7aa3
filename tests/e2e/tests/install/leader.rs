//! Two controllers, of which one leads.

use anyhow::ensure;
use coracle_api::vm::Phase;
use coracle_e2e::{
    BlockVolume, Cluster, Installation, Machine, Namespace, goes_on, until, vm_object,
};
use kube::api::DeleteParams;
use serde_json::json;

#[tokio::test]
async fn the_other_replica_takes_over_from_a_deleted_leader_and_no_vm_notices() -> anyhow::Result<()>
{
    let Some(cluster) = Cluster::bare().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(installation) = Installation::as_shipped().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let _root = BlockVolume::new(&installation.node, &namespace, "root", "power-button").await?;
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", json!({}))).await?;
    let pod = vm.runs(1).await?;
    pod.says("guest ready").await?;
    let before = pod.get().await?;

    let first = until("a replica leads", async || installation.leader().await).await?;
    let pods = installation.pods();
    let first_there = pods.get_opt(&first).await?.is_some();
    ensure!(first_there, "the leader {first:?} is no pod");
    pods.delete(&first, &DeleteParams::default()).await?;
    let second = until("another replica leads", async || {
        let leader = installation.leader().await?;
        Ok(leader.filter(|leader| *leader != first))
    });
    let second = second.await?;
    ensure!(
        pods.get_opt(&second).await?.is_some(),
        "{second:?} is no pod"
    );

    // It does what is asked for, and has left alone what runs.
    let halted = vm_object("halted", json!({"runPolicy": "Halted"}));
    let halted = Machine::apply(&cluster, &namespace, &halted).await?;
    halted.phase_is(Phase::Stopped).await?;
    goes_on(&before, &pod.get().await?)?;
    vm.runs(1).await?;
    vm.delete(&pod).await
}
