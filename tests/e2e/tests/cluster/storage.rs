//! Raw block through CSI, as it is in the field: a driver on the node,
//! Kubernetes' own provisioner and resizer, the kubelet's staging and mapping.

mod documented;

use anyhow::Context;
use coracle_api::vm::{ConditionType, Phase};
use coracle_e2e::{
    Cluster, Component, Csi, CsiVolume, Machine, Namespace, VmPod, block_claim, claim_phase,
    condition, goes_on, until, vm_object, wait_for,
};
use coracle_test_csi::proto::volume_capability::{AccessMode, AccessType, BlockVolume};
use coracle_test_csi::proto::volume_content_source::{SnapshotSource, Type};
use coracle_test_csi::proto::{
    CreateSnapshotRequest, CreateVolumeRequest, DeleteSnapshotRequest, VolumeCapability,
    VolumeContentSource,
};
use coracle_tests::{Logbook, Pattern};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

/// Makes a claim that begins as a copy of another.
async fn copy_of(
    cluster: &Cluster,
    namespace: &Namespace,
    golden: &str,
    name: &str,
) -> anyhow::Result<()> {
    let mut claim = block_claim(name, Csi::LATE);
    claim["metadata"]["namespace"] = json!(namespace.name);
    claim["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": golden});
    cluster.kubectl.apply(&claim).await
}

/// Deletes a claim, and waits until its volume is gone with it.
async fn delete(namespace: &Namespace, claim: &str, volume: &CsiVolume) -> anyhow::Result<()> {
    let claims = namespace.claims();
    claims.delete(claim, &DeleteParams::default()).await?;
    volume.is_gone().await
}

/// A VM on a volume of its own that keeps a logbook.
async fn diarist(
    cluster: &Cluster,
    csi: &Csi,
    namespace: &Namespace,
) -> anyhow::Result<(Machine, VmPod, CsiVolume)> {
    let volume = csi.golden(namespace, "root", "logbook").await?;
    let vm = Machine::apply(cluster, namespace, &vm_object("web", json!({}))).await?;
    let pod = vm.runs(1).await?;
    pod.says("guest ready").await?;
    volume.advances(3).await?;
    Ok((vm, pod, volume))
}

#[tokio::test]
async fn a_volume_is_made_for_its_first_vm_and_nothing_is_left_when_both_are_deleted()
-> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(csi) = Csi::get(&cluster).await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let golden = csi.golden(&namespace, "golden", "write-sector").await?;
    copy_of(&cluster, &namespace, "golden", "root").await?;
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", json!({}))).await?;
    let pod = vm.runs(1).await?;
    pod.says("wrote").await?;

    let volume = csi.bound(&namespace, "root").await?;
    assert_eq!(volume.devices().await?.len(), 1);
    vm.delete(&pod).await?;
    volume.is_free().await?;
    let before = golden.read()?;
    assert!(
        volume.read()? == Pattern::on(&before),
        "the volume is not as the guest left it"
    );
    delete(&namespace, "root", &volume).await?;
    delete(&namespace, "golden", &golden).await
}

#[tokio::test]
async fn a_local_volume_and_one_of_csi_serve_one_vm() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(csi) = Csi::get(&cluster).await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let local =
        coracle_e2e::BlockVolume::new(&csi.node, &namespace, "root", "write-sector").await?;
    let data = csi.golden(&namespace, "data", "power-button").await?;
    let before = (local.disk.read()?, data.read()?);
    let disks = json!({"disks": [
        {"name": "data", "claim": {"name": "data"}},
        {"name": "root", "claim": {"name": "root"}, "bootOrder": 1},
    ]});
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", disks)).await?;
    let pod = vm.runs(1).await?;
    pod.says("wrote").await?;
    let disks = vm.phase_is(Phase::Running).await?.disks;
    let drivers: Vec<_> = disks
        .iter()
        .map(|disk| (disk.claim.as_str(), disk.driver.as_deref()))
        .collect();
    let wanted = [("data", Some(coracle_test_csi::NAME)), ("root", None)];
    assert_eq!(drivers, wanted);
    assert_eq!(data.devices().await?.len(), 1);
    vm.delete(&pod).await?;
    data.is_free().await?;
    assert!(
        local.disk.read()? == Pattern::on(&before.0),
        "not as the guest left it"
    );
    assert!(data.read()? == before.1, "nobody wrote to it");
    delete(&namespace, "data", &data).await
}

#[tokio::test]
async fn a_vm_whose_volume_is_not_made_yet_says_so_and_then_runs() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(csi) = Csi::get(&cluster).await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    csi.golden(&namespace, "golden", "power-button").await?;
    csi.node.stop(Component::CsiProvisioner).await?;
    copy_of(&cluster, &namespace, "golden", "root").await?;
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", json!({}))).await?;
    let waiting = vm.phase_is(Phase::Scheduling).await;
    // The claim waits for the pod, and the pod for the volume.
    let unbound = namespace.claims().get("root").await?;
    csi.node.start(Component::CsiProvisioner).await?;
    let waiting = waiting?;
    assert_eq!(claim_phase(&unbound), "Pending");
    let says = |condition: &Condition| condition.message.contains("WaitForFirstConsumer");
    assert!(
        waiting.conditions.iter().any(says),
        "{:#?}",
        waiting.conditions
    );
    let pod = vm.runs(1).await?;
    csi.bound(&namespace, "root").await?;
    vm.delete(&pod).await
}

#[tokio::test]
async fn a_shared_claim_of_csi_is_written_by_one_vm() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(csi) = Csi::get(&cluster).await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let golden = csi.golden(&namespace, "golden", "power-button").await?;
    let mut claim = block_claim("root", Csi::AT_ONCE);
    claim["metadata"]["namespace"] = json!(namespace.name);
    claim["spec"]["accessModes"] = json!(["ReadWriteMany"]);
    cluster.kubectl.apply(&claim).await?;
    let volume = csi.bound(&namespace, "root").await?;
    volume.fill(&golden.read()?)?;

    let first = Machine::apply(&cluster, &namespace, &vm_object("first", json!({}))).await?;
    let pod = first.runs(1).await?;
    let second = Machine::apply(&cluster, &namespace, &vm_object("second", json!({}))).await?;
    let refused = second.phase_is(Phase::Pending).await?;
    let disks = condition(&refused, ConditionType::DisksReady);
    let message = disks.map_or("", |disks| disks.message.as_str());
    assert!(message.contains("first"), "{message}");
    first.delete(&pod).await?;
    let pod = second.runs(1).await?;
    second.delete(&pod).await?;
    volume.is_free().await
}

#[tokio::test]
async fn a_grown_claim_reaches_the_running_guest() -> anyhow::Result<()> {
    const GROWN: u64 = 8 << 20;
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(csi) = Csi::get(&cluster).await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let (vm, pod, volume) = diarist(&cluster, &csi, &namespace).await?;
    let before = pod.get().await?;
    let claims = namespace.claims();
    let wish = json!({"spec": {"resources": {"requests": {"storage": "8Mi"}}}});
    let wish = Patch::Merge(wish);
    claims.patch("root", &PatchParams::default(), &wish).await?;
    until("the resizer has grown the volume", async || {
        let size = std::fs::metadata(volume.file())?.len();
        Ok((size == GROWN).then_some(()))
    })
    .await?;
    // The kubelet looks at a pod's volumes about once a minute, and at once
    // when the pod changes.
    pod.annotate("example.com/looked-at", "now").await?;
    wait_for(
        &claims,
        "root",
        "has 8Mi",
        |claim: Option<&PersistentVolumeClaim>| {
            let capacity = claim.and_then(|claim| claim.status.as_ref()?.capacity.as_ref());
            capacity.is_some_and(|capacity| capacity["storage"].0 == "8Mi")
        },
    )
    .await?;
    until("the guest's disk has the new size", async || {
        let said = cluster
            .kubectl
            .shim(&namespace.name, &pod.name, &["state"])
            .await?;
        let state: serde_json::Value = serde_json::from_str(&said)?;
        let size = &state["disks"][0]["sizeBytes"];
        Ok((size.as_u64() == Some(GROWN)).then_some(()))
    })
    .await?;
    volume.advances(3).await?;
    goes_on(&before, &pod.get().await?)?;
    vm.delete(&pod).await?;
    volume.is_free().await?;
    Logbook::read(&volume.read()?)?;
    Ok(())
}

#[tokio::test]
async fn a_guest_goes_on_while_its_driver_is_killed_and_comes_back() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(csi) = Csi::get(&cluster).await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let (vm, pod, volume) = diarist(&cluster, &csi, &namespace).await?;
    let before = pod.get().await?;
    csi.kill().await?;
    volume.advances(3).await?;
    csi.start().await?;
    volume.advances(3).await?;
    goes_on(&before, &pod.get().await?)?;

    vm.delete(&pod).await?;
    volume.is_free().await?;
    let logbook = Logbook::read(&volume.read()?)?;
    assert_eq!(logbook.boots, 1, "it booted again");
    delete(&namespace, "root", &volume).await
}

#[tokio::test]
async fn a_filesystem_claim_of_csi_holds_the_image_of_the_disk() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(csi) = Csi::get(&cluster).await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    csi.golden(&namespace, "root", "power-button").await?;
    let mut claim = block_claim("data", Csi::LATE);
    claim["metadata"]["namespace"] = json!(namespace.name);
    claim["spec"]["volumeMode"] = json!("Filesystem");
    claim["spec"]["resources"]["requests"]["storage"] = json!("64Mi");
    cluster.kubectl.apply(&claim).await?;
    let disks = json!({"disks": [
        {"name": "root", "bootOrder": 1, "claim": {"name": "root"}},
        {"name": "data", "claim": {"name": "data"}},
    ]});
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", disks)).await?;
    let pod = vm.runs(1).await?;
    pod.says("guest ready").await?;
    let volume = csi.bound(&namespace, "data").await?;
    vm.delete(&pod).await?;
    volume.is_free().await?;
    let look = std::process::Command::new("debugfs")
        .args(["-R", "stat /disk.img"])
        .arg(volume.file())
        .output()?;
    let found = String::from_utf8_lossy(&look.stdout);
    assert!(found.contains("Type: regular"), "{found}");
    assert!(found.contains("User:   107"), "{found}");
    delete(&namespace, "data", &volume).await
}

/// Makes a volume from a snapshot of another, by CSI's calls.
async fn from_snapshot(csi: &Csi, of: &CsiVolume, name: &str) -> anyhow::Result<CsiVolume> {
    let mut controller = csi.controller().await?;
    let request = CreateSnapshotRequest {
        source_volume_id: of.handle.clone(),
        name: name.to_owned(),
        ..CreateSnapshotRequest::default()
    };
    let made = controller.create_snapshot(request).await?.into_inner();
    let snapshot_id = made.snapshot.context("a snapshot")?.snapshot_id;
    let capability = VolumeCapability {
        access_mode: Some(AccessMode { mode: 1 }),
        access_type: Some(AccessType::Block(BlockVolume {})),
    };
    let source = SnapshotSource {
        snapshot_id: snapshot_id.clone(),
    };
    let request = CreateVolumeRequest {
        name: name.to_owned(),
        volume_capabilities: vec![capability],
        volume_content_source: Some(VolumeContentSource {
            r#type: Some(Type::Snapshot(source)),
        }),
        ..CreateVolumeRequest::default()
    };
    let made = controller.create_volume(request).await?.into_inner();
    let request = DeleteSnapshotRequest { snapshot_id };
    controller.delete_snapshot(request).await?;
    Ok(csi.volume(&made.volume.context("a volume")?.volume_id))
}

#[tokio::test]
async fn a_vm_boots_from_a_snapshots_volume_that_an_administrator_binds() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(csi) = Csi::get(&cluster).await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let golden = csi.golden(&namespace, "golden", "logbook").await?;
    let name = format!("{}-copy", namespace.name);
    let copy = from_snapshot(&csi, &golden, &name).await?;
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Mi"},
            "volumeMode": "Block",
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": Csi::LATE,
            "claimRef": {"namespace": namespace.name, "name": "root"},
            "csi": {"driver": coracle_test_csi::NAME, "volumeHandle": copy.handle},
        },
    });
    cluster.kubectl.apply(&volume).await?;
    let mut claim = block_claim("root", Csi::LATE);
    claim["metadata"]["namespace"] = json!(namespace.name);
    claim["spec"]["volumeName"] = json!(name);
    cluster.kubectl.apply(&claim).await?;
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", json!({}))).await?;
    let pod = vm.runs(1).await?;
    copy.advances(3).await?;
    vm.delete(&pod).await?;
    copy.is_free().await?;
    assert_eq!(Logbook::read(&copy.read()?)?.boots, 1);
    let untouched = Logbook::read(&golden.read()?)?;
    assert_eq!((untouched.boots, untouched.newest), (0, 0));
    Ok(())
}
