//! New controllers and device plugins, while a guest runs.

use coracle_e2e::{
    BlockVolume, Cluster, Installation, KVM_COUNT, Machine, Namespace, goes_on, until, vm_object,
};
use kube::api::ListParams;
use serde_json::json;

/// The release that is upgraded to.
const NEXT: &str = "next";

/// The images that the parts' pods run.
async fn images(installation: &Installation) -> anyhow::Result<Vec<String>> {
    let pods = installation.pods().list(&ListParams::default()).await?;
    let living = pods
        .items
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let containers = living
        .filter_map(|pod| pod.spec)
        .flat_map(|spec| spec.containers);
    Ok(containers.filter_map(|container| container.image).collect())
}

#[tokio::test]
async fn a_restart_and_an_upgrade_of_every_part_leave_the_guest_running() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::bare().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(installation) = Installation::at_level_run().await? else {
        return Ok(());
    };
    let node = &installation.node;
    node.allocatable_is(KVM_COUNT).await?;
    let namespace = Namespace::new(&cluster).await?;
    let _root = BlockVolume::new(node, &namespace, "root", "power-button").await?;
    let vm = vm_object("web", json!({"accelerator": "Kvm"}));
    let vm = Machine::apply(&cluster, &namespace, &vm).await?;
    let pod = vm.runs(1).await?;
    pod.says("guest ready").await?;
    let before = pod.get().await?;

    installation.restart().await?;
    goes_on(&before, &pod.get().await?)?;
    installation.upgrade_to(NEXT).await?;
    goes_on(&before, &pod.get().await?)?;
    for image in images(&installation).await? {
        assert!(image.ends_with(&format!(":{NEXT}")), "{image}");
    }
    // The guest is no mere process: its shim answers, and says that it runs.
    let state = cluster
        .kubectl
        .shim(&namespace.name, &pod.name, &["state"])
        .await?;
    assert!(state.contains("\"running\""), "{state}");

    // The new ones know it as theirs: its slot is taken, and it can be stopped.
    node.allocatable_is(KVM_COUNT).await?;
    let leads = async || installation.leader().await;
    until("a controller leads", leads).await?;
    goes_on(&before, &pod.get().await?)?;
    vm.run_policy("Halted").await?;
    pod.gone().await?;
    vm.run_policy("Always").await?;
    vm.runs(2).await?.says("guest ready").await
}
