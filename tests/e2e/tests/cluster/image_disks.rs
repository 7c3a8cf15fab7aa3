//! Disks in container images: mounted by the node as image volumes, read as
//! they are or under an overlay.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use coracle_api::names::ANNOTATION_RESTART;
use coracle_api::vm::{ConditionType, Phase, VirtualMachineStatus};
use coracle_e2e::{
    Cluster, Image, Machine, Namespace, Node, PodFacts, VmPod, condition, until, vm_object,
};
use coracle_tests::{Logbook, guest};
use serde_json::{Value, json};

/// The node, a namespace, and a container image with the disk of this guest.
async fn place(
    cluster: &Cluster,
    name: &str,
    content: &str,
) -> anyhow::Result<Option<(Node, Namespace)>> {
    let Some(node) = cluster.node_with_controller().await? else {
        return Ok(None);
    };
    if !has_image_volumes(&node).await? {
        eprintln!("skipped: the node's container runtime has no image volumes");
        return Ok(None);
    }
    let disk = fs::read(guest(content)?)?;
    let file = format!("disk/{content}.img");
    node.load_image(name, &Image::of(&[(&file, &disk)])?)
        .await?;
    Ok(Some((node, Namespace::new(cluster).await?)))
}

/// containerd has them from 2.1 on.
async fn has_image_volumes(node: &Node) -> anyhow::Result<bool> {
    let runtime = node.runtime().await?;
    Ok(!runtime.starts_with("containerd://1.") && !runtime.starts_with("containerd://2.0."))
}

/// A VM whose disk `root` is in this image.
#[expect(clippy::needless_pass_by_value, reason = "it is called with json!(…)")]
fn in_image(name: &str, image: Value, fields: Value) -> Value {
    let mut disk = json!({"name": "root", "bootOrder": 1, "image": image});
    if let (Some(disk), Some(fields)) = (disk.as_object_mut(), fields.as_object()) {
        disk.extend(fields.clone());
    }
    vm_object(name, json!({"disks": [disk]}))
}

fn said(status: &VirtualMachineStatus) -> (&str, &str) {
    condition(status, ConditionType::Ready)
        .map_or(("", ""), |found| (&found.reason, &found.message))
}

/// The overlay of a pod's disk, on the node.
async fn overlay(pod: &VmPod) -> anyhow::Result<PathBuf> {
    let uid = pod.get().await?.metadata.uid.context("a pod has a uid")?;
    let volumes = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir");
    let mut found = fs::read_dir(format!("{volumes}/overlay-root"))?;
    let overlay = found.next().context("no overlay")??.path();
    ensure!(found.next().is_none(), "more than one overlay");
    Ok(overlay)
}

/// The logbook in an overlay. Each cluster that the guest wrote to is in it as
/// a whole, and no other has to do with the logbook.
fn glance(node: &Node, overlay: &PathBuf) -> anyhow::Result<Logbook> {
    let raw = node.dir().join("overlay.raw");
    let made = Command::new("qemu-img")
        .args(["convert", "--force-share", "-f", "qcow2", "-O", "raw"])
        .args([overlay, &raw])
        .output()?;
    ensure!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    Ok(Logbook::glance(&fs::read(raw)?)?)
}

/// Waits until that many guests have booted from a pod's disk, and the last one
/// has written.
async fn booted(node: &Node, pod: &VmPod, boots: u32) -> anyhow::Result<()> {
    until(&format!("boot {boots} has written"), async || {
        // qemu may be about to change a table.
        let logbook = glance(node, &overlay(pod).await?);
        Ok(logbook
            .ok()
            .filter(|l| l.boots == boots && l.newest > 0)
            .map(|_| ()))
    })
    .await
}

#[tokio::test]
async fn a_vm_boots_from_a_container_image_and_writes_to_an_overlay_of_its_pod()
-> anyhow::Result<()> {
    const IMAGE: &str = "coracle.dev/e2e-logbook:1";
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((node, namespace)) = place(&cluster, IMAGE, "logbook").await? else {
        return Ok(());
    };
    let image = json!({"reference": IMAGE, "pullPolicy": "Never", "size": "8Mi"});
    let vm = Machine::apply(&cluster, &namespace, &in_image("web", image, json!({}))).await?;
    let first = vm.runs(1).await?;
    first.says("guest ready").await?;
    booted(&node, &first, 1).await?;
    let status = vm.phase_is(Phase::Running).await?;
    let disk = status.disks.first().context("the disk is told of")?;
    assert_eq!((&*disk.name, &*disk.claim), ("root", ""));
    assert_eq!(disk.image.as_deref(), Some(IMAGE));

    // Another VM has the same image, and what the first wrote is not in it.
    let image = json!({"reference": IMAGE, "path": "disk/logbook.img", "pullPolicy": "Never"});
    let other = Machine::apply(&cluster, &namespace, &in_image("other", image, json!({}))).await?;
    let beside = other.runs(1).await?;
    booted(&node, &beside, 1).await?;
    other.delete(&beside).await?;

    // Started again in place, it goes on; in another pod, it begins anew.
    cluster
        .kubectl
        .shim(&namespace.name, &first.name, &["kill"])
        .await?;
    first
        .wait("runs again", |pod| pod.restarts() > 0 && pod.runs())
        .await?;
    booted(&node, &first, 2).await?;
    vm.annotate(ANNOTATION_RESTART, "1").await?;
    let second = vm.runs(2).await?;
    booted(&node, &second, 1).await?;
    vm.delete(&second).await
}

#[tokio::test]
async fn a_vm_that_may_only_read_has_no_overlay() -> anyhow::Result<()> {
    const IMAGE: &str = "coracle.dev/e2e-power-button:1";
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((_node, namespace)) = place(&cluster, IMAGE, "power-button").await? else {
        return Ok(());
    };
    let image = json!({"reference": IMAGE, "pullPolicy": "IfNotPresent"});
    let vm = in_image("web", image, json!({"readOnly": true}));
    let vm = Machine::apply(&cluster, &namespace, &vm).await?;
    let pod = vm.runs(1).await?;
    pod.says("guest ready").await?;
    assert!(overlay(&pod).await.is_err());
    vm.delete(&pod).await
}

#[tokio::test]
async fn an_image_that_is_not_there_or_not_right_is_a_condition_that_says_so() -> anyhow::Result<()>
{
    const IMAGE: &str = "coracle.dev/e2e-two-disks:1";
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((node, namespace)) = place(&cluster, "coracle.dev/e2e-logbook:1", "logbook").await?
    else {
        return Ok(());
    };
    let missing = json!({"reference": "coracle.dev/e2e-none:1", "pullPolicy": "Never"});
    let missing = in_image("missing", missing, json!({}));
    let missing = Machine::apply(&cluster, &namespace, &missing).await?;
    let status = missing
        .wait("says what it waits for", |status| {
            said(status).0 == "ImagePullFailed"
        })
        .await?;
    let message = said(&status).1;
    assert!(message.contains("coracle.dev/e2e-none:1"), "{message}");
    assert!(message.contains("spec.disks[root].image"), "{message}");
    missing.delete(&missing.pod(1)).await?;

    let two = Image::of(&[("disk/a.img", &[0; 512]), ("disk/b.img", &[0; 512])])?;
    node.load_image(IMAGE, &two).await?;
    let wrong = in_image(
        "wrong",
        json!({"reference": IMAGE, "pullPolicy": "Never"}),
        json!({}),
    );
    let wrong = Machine::apply(&cluster, &namespace, &wrong).await?;
    let status = wrong
        .wait("says what is wrong", |status| {
            said(status).0 == "DiskInvalid"
        })
        .await?;
    let message = said(&status).1;
    assert!(
        message.contains("several files in /disk (a.img, b.img)"),
        "{message}"
    );
    wrong.run_policy("Halted").await?;
    wrong.phase_is(Phase::Stopped).await?;
    Ok(())
}
