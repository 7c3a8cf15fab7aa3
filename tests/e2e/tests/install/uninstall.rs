//! What an uninstallation takes along, and what it leaves.

use anyhow::ensure;
use coracle_e2e::{
    BlockVolume, Cluster, Installation, Machine, NAMESPACE, Namespace, vm_object, wait_for,
};
use coracle_tests::Pattern;
use k8s_openapi::api::core::v1::{Namespace as Object, PersistentVolumeClaim};
use kube::Api;
use serde_json::json;

#[tokio::test]
async fn an_uninstallation_leaves_claims_and_their_data_alone() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::bare().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(installation) = Installation::as_shipped().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let root = BlockVolume::new(&installation.node, &namespace, "root", "write-sector").await?;
    let before = root.disk.read()?;
    let vm = Machine::apply(&cluster, &namespace, &vm_object("writer", json!({}))).await?;
    let pod = vm.runs(1).await?;
    pod.says("wrote").await?;

    // In one go, although a VM still runs: it must be shut down, not orphaned.
    installation.uninstall().await?;
    pod.gone().await?;
    let defined = cluster
        .kubectl
        .run(&["get", "customresourcedefinitions"])
        .await?;
    ensure!(!defined.contains("coracle.dev"), "{defined}");
    let namespaces: Api<Object> = Api::all(cluster.client.clone());
    wait_for(&namespaces, NAMESPACE, "gone", |namespace| {
        namespace.is_none()
    })
    .await?;

    let claim: PersistentVolumeClaim = namespace.claims().get("root").await?;
    let phase = claim.status.and_then(|status| status.phase);
    assert_eq!(phase.as_deref(), Some("Bound"));
    ensure!(
        root.disk.read()? == Pattern::on(&before),
        "the disk is not as the guest left it"
    );
    Ok(())
}
