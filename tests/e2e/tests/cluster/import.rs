//! Claims that are filled before their VM first starts.

use std::fs;

use anyhow::Context;
use coracle_api::names::{ANNOTATION_IMPORTED, ANNOTATION_RESTART};
use coracle_api::vm::{ConditionType, Phase, VirtualMachineStatus};
use coracle_e2e::{
    BlockVolume, Cluster, Component, Image, Machine, Namespace, Node, PodFacts, Registry, Web,
    checksum, condition, vm_object, wait_for,
};
use coracle_tests::guest;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// The node, and a namespace with an empty claim `root`.
async fn place(cluster: &Cluster) -> anyhow::Result<Option<(Node, Namespace, BlockVolume)>> {
    let Some(node) = cluster.node_with_controller().await? else {
        return Ok(None);
    };
    let namespace = Namespace::new(cluster).await?;
    let root = BlockVolume::empty(&node, &namespace, "root").await?;
    Ok(Some((node, namespace, root)))
}

/// A VM whose claim `root` is filled.
#[expect(clippy::needless_pass_by_value, reason = "it is called with json!(…)")]
fn filled(name: &str, from: Value) -> Value {
    let claim = json!({"name": "root", "from": from});
    vm_object(
        name,
        json!({"disks": [{"name": "root", "bootOrder": 1, "claim": claim}]}),
    )
}

/// What the claim `root` says that it was filled with.
async fn imported(namespace: &Namespace) -> anyhow::Result<Option<String>> {
    let claim = namespace.claims().get("root").await?;
    let annotations = claim.metadata.annotations.unwrap_or_default();
    Ok(annotations.get(ANNOTATION_IMPORTED).cloned())
}

fn importers(pod: &Pod) -> usize {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.init_containers.as_ref())
        .map_or(0, Vec::len)
}

fn reason(status: &VirtualMachineStatus, kind: ConditionType) -> (&str, &str) {
    condition(status, kind).map_or(("", ""), |found| (&found.reason, &found.message))
}

#[tokio::test]
async fn a_vm_boots_from_what_a_web_server_has_and_its_disk_is_filled_once() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((_node, namespace, root)) = place(&cluster).await? else {
        return Ok(());
    };
    let image = fs::read(guest("logbook")?)?;
    let web = Web::serve(image.clone())?;
    let url = web.url("logbook.img");
    let from = json!({"http": {"url": url, "checksum": checksum(&image)?}});
    let vm = Machine::apply(&cluster, &namespace, &filled("web", from)).await?;
    let first = vm.runs(1).await?;
    first.says("guest ready").await?;
    let asked = web.asked("logbook.img");
    assert!(asked > 0);
    assert_eq!(importers(&first.get().await?), 1);
    let status = vm
        .wait("tells what its disk was filled with", |status| {
            let disk = status.disks.first();
            disk.is_some_and(|disk| disk.imported_from.as_deref() == Some(&url))
        })
        .await?;
    assert_eq!(reason(&status, ConditionType::DisksReady).0, "AsExpected");
    assert_eq!(imported(&namespace).await?.as_deref(), Some(&*url));
    root.advances(2).await?;

    // Started again in place, and in a pod of its own: the disk is the guest's.
    cluster
        .kubectl
        .shim(&namespace.name, &first.name, &["kill"])
        .await?;
    first
        .wait("runs again", |pod| pod.restarts() > 0 && pod.runs())
        .await?;
    let before = root.advances(2).await?;
    assert_eq!(before.boots, 2);
    vm.annotate(ANNOTATION_RESTART, "1").await?;
    let second = vm.runs(2).await?;
    assert_eq!(importers(&second.get().await?), 0);
    let after = root.advances(2).await?;
    assert_eq!(after.boots, 3);
    assert!(after.newest > before.newest);
    assert_eq!(web.asked("logbook.img"), asked, "it is fetched once");
    vm.delete(&second).await
}

/// The importer with an authority that it believes: an image like this is what
/// an administrator with a private registry makes.
async fn importer_that_believes(node: &Node, authority: &str) -> anyhow::Result<String> {
    let archive = node.dir().join("images/importer.tar");
    let image = Image::read(&archive)?
        .with_files(&[("etc/authority.pem", authority.as_bytes())])?
        .with_variable("SSL_CERT_FILE", "/etc/authority.pem");
    let name = "coracle.dev/e2e-importer:1".to_owned();
    node.load_image(&name, &image).await?;
    Ok(name)
}

#[tokio::test]
async fn a_claim_is_filled_from_a_container_disk_in_a_registry() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some((node, namespace, root)) = place(&cluster).await? else {
        return Ok(());
    };
    let disk = fs::read(guest("logbook")?)?;
    let image = Image::of(&[("etc/motd", b"a disk"), ("disk/logbook.img", &disk)])?;
    let registry = Registry::serve("vms/logbook:1", &image)?;
    let importer = importer_that_believes(&node, &registry.authority).await?;
    node.stop(Component::Controller).await?;
    let arguments = node.controller_arguments(&format!("--importer-image {importer}"))?;
    node.start(Component::Controller).await?;

    let reference = registry.reference("vms/logbook:1");
    let from = json!({"image": {"reference": reference}});
    let vm = Machine::apply(&cluster, &namespace, &filled("web", from)).await?;
    let first = vm.runs(1).await;
    drop(arguments);
    node.stop(Component::Controller).await?;
    node.start(Component::Controller).await?;
    let first = first?;
    first.says("guest ready").await?;
    root.advances(2).await?;
    let from = format!("image {reference}");
    vm.wait("tells what its disk was filled with", |status| {
        let disk = status.disks.first();
        disk.is_some_and(|disk| disk.imported_from.as_deref() == Some(&from))
    })
    .await?;
    assert_eq!(imported(&namespace).await?, Some(from));
    let asked = registry.asked("/blobs/");
    assert!(asked > 0);

    vm.annotate(ANNOTATION_RESTART, "1").await?;
    let second = vm.runs(2).await?;
    assert_eq!(importers(&second.get().await?), 0);
    assert_eq!(root.advances(2).await?.boots, 2);
    assert_eq!(registry.asked("/blobs/"), asked, "it is fetched once");
    vm.delete(&second).await
}

#[tokio::test]
async fn a_disk_is_a_copy_of_a_claim_that_nobody_writes_to() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((node, namespace, root)) = place(&cluster).await? else {
        return Ok(());
    };
    let golden = BlockVolume::new(&node, &namespace, "golden", "power-button").await?;
    let maker = vm_object(
        "maker",
        json!({"disks": [{"name": "root", "claim": {"name": "golden"}}]}),
    );
    let maker = Machine::apply(&cluster, &namespace, &maker).await?;
    let made = maker.runs(1).await?;
    let from = json!({"claim": {"name": "golden"}});
    let vm = Machine::apply(&cluster, &namespace, &filled("copy", from)).await?;
    let waits = vm.phase_is(Phase::Pending).await?;
    let (word, message) = reason(&waits, ConditionType::DisksReady);
    assert_eq!(word, "ClaimInUse", "{message}");
    assert!(
        message.contains("filled from claim \"golden\""),
        "{message}"
    );
    assert!(message.contains("VM \"maker\""), "{message}");

    maker.run_policy("Halted").await?;
    made.gone().await?;
    let pod = vm.runs(1).await?;
    pod.says("guest ready").await?;
    assert!(root.disk.read()? == golden.disk.read()?, "it is a copy");

    // Copied, the source is its VM's again, although the copy runs.
    maker.run_policy("Always").await?;
    let made = maker.runs(2).await?;
    made.says("guest ready").await?;
    vm.delete(&pod).await?;
    maker.delete(&made).await
}

#[tokio::test]
async fn a_wrong_checksum_is_a_condition_and_the_right_one_boots() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((_node, namespace, _root)) = place(&cluster).await? else {
        return Ok(());
    };
    let image = fs::read(guest("power-button")?)?;
    let web = Web::serve(image.clone())?;
    let http = |sum: &str| json!({"http": {"url": web.url("disk"), "checksum": sum}});
    let wrong = format!("sha256:{}", "5e".repeat(32));
    let vm = Machine::apply(&cluster, &namespace, &filled("web", http(&wrong))).await?;
    let failed = vm.phase_is(Phase::Failed).await?;
    let (word, message) = reason(&failed, ConditionType::Ready);
    assert_eq!(word, "ImportRefused", "{message}");
    assert!(message.contains(&"5e".repeat(32)), "{message}");
    let last = failed.last_termination.context("how it ended")?;
    assert_eq!((&*last.reason, last.exit_code), ("ImportRefused", Some(2)));
    assert_eq!(imported(&namespace).await?, None);

    let right = filled("web", http(&checksum(&image)?));
    vm.merge(json!({"spec": right["spec"]})).await?;
    let pod = vm.runs(2).await?;
    pod.says("guest ready").await?;
    vm.delete(&pod).await
}

#[tokio::test]
async fn a_claim_with_data_is_left_alone_until_somebody_says_that_it_is_the_disk()
-> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(node) = cluster.node_with_controller().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let root = BlockVolume::new(&node, &namespace, "root", "power-button").await?;
    let before = root.disk.read()?;
    let image = vec![7; 4096];
    let web = Web::serve(image.clone())?;
    let from = json!({"http": {"url": web.url("disk"), "checksum": checksum(&image)?}});
    let vm = Machine::apply(&cluster, &namespace, &filled("web", from)).await?;
    let failed = vm.phase_is(Phase::Failed).await?;
    let (word, message) = reason(&failed, ConditionType::Ready);
    assert_eq!(word, "DiskNotEmpty", "{message}");
    assert!(message.contains("already holds data"), "{message}");
    assert!(root.disk.read()? == before, "nothing was written");

    let kept = json!({"metadata": {"annotations": {ANNOTATION_IMPORTED: "kept"}}});
    let (claims, how) = (namespace.claims(), PatchParams::default());
    claims.patch("root", &how, &Patch::Merge(kept)).await?;
    let pod = vm.runs(2).await?;
    pod.says("guest ready").await?;
    vm.delete(&pod).await
}

/// A static volume in a directory of the node, and the claim `root` for it.
async fn directory(
    cluster: &Cluster,
    namespace: &Namespace,
    node: &Node,
) -> anyhow::Result<std::path::PathBuf> {
    let name = format!("{}-root", namespace.name);
    let path = node.dir().join(&name);
    fs::create_dir(&path)?;
    let shared = json!({"storageClassName": "", "volumeMode": "Filesystem",
                        "accessModes": ["ReadWriteOnce"]});
    let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name}, "spec": shared});
    volume["spec"]["capacity"] = json!({"storage": "8Mi"});
    volume["spec"]["local"] = json!({"path": path});
    volume["spec"]["claimRef"] = json!({"namespace": namespace.name, "name": "root"});
    volume["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In",
                               "values": [node.name()]}]}]}});
    cluster.kubectl.apply(&volume).await?;
    let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "root", "namespace": namespace.name}, "spec": shared});
    claim["spec"]["volumeName"] = json!(name);
    claim["spec"]["resources"] = json!({"requests": {"storage": "8Mi"}});
    cluster.kubectl.apply(&claim).await?;
    Ok(path)
}

#[tokio::test]
async fn a_filesystem_claim_gets_an_image_file_of_its_own_size() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(node) = cluster.node_with_controller().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let path = directory(&cluster, &namespace, &node).await?;
    let image = fs::read(guest("power-button")?)?;
    let web = Web::serve(image.clone())?;
    let from = json!({"http": {"url": web.url("disk"), "checksum": checksum(&image)?}});
    let vm = Machine::apply(&cluster, &namespace, &filled("web", from)).await?;
    let pod = vm.runs(1).await?;
    pod.says("guest ready").await?;
    let mut wanted = image;
    wanted.resize(7 << 20, 0);
    assert!(fs::read(path.join("disk.img"))? == wanted, "another disk");
    assert!(path.join("disk.img.imported").exists());
    vm.wait("tells what its disk was filled with", |status| {
        let disk = status.disks.first();
        disk.is_some_and(|disk| disk.imported_from.is_some())
    })
    .await?;
    vm.delete(&pod).await?;
    let volume = format!("{}-root", namespace.name);
    let delete = ["delete", "persistentvolume", &volume, "--wait=false"];
    cluster.kubectl.run(&delete).await?;
    Ok(())
}

#[tokio::test]
async fn a_disk_that_was_filled_while_the_controller_was_away_is_not_filled_again()
-> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some((node, namespace, _root)) = place(&cluster).await? else {
        return Ok(());
    };
    let image = fs::read(guest("power-button")?)?;
    let web = Web::hold(image.clone())?;
    let from = json!({"http": {"url": web.url("disk"), "checksum": checksum(&image)?}});
    let vm = Machine::apply(&cluster, &namespace, &filled("web", from)).await?;
    let fills = vm
        .wait("says that its disk is filled", |status| {
            reason(status, ConditionType::Ready).0 == "Importing"
        })
        .await;
    node.kill(Component::Controller).await?;
    web.release();
    let pods = namespace.pods();
    let ran = wait_for(&pods, "web-1", "runs", |pod: Option<&Pod>| {
        pod.is_some_and(PodFacts::runs)
    });
    let (ran, noted) = (ran.await, imported(&namespace).await);
    node.start(Component::Controller).await?;
    let (fills, asked) = (fills?, web.asked("disk"));
    assert_eq!(fills.phase, Some(Phase::Starting));
    assert_eq!(reason(&fills, ConditionType::DisksReady).0, "Importing");
    assert!(ran?.is_some());
    assert_eq!(noted?, None, "nobody was there to write it");

    vm.annotate(ANNOTATION_RESTART, "1").await?;
    let second = vm.runs(2).await?;
    second.says("guest ready").await?;
    assert_eq!(importers(&second.get().await?), 0);
    assert!(imported(&namespace).await?.is_some());
    assert_eq!(web.asked("disk"), asked);
    vm.delete(&second).await
}
