//! The controller: from a manifest to a running guest, and back.

use coracle_api::names::{ANNOTATION_DESIRED, ANNOTATION_RESTART};
use coracle_api::vm::{ConditionType, Phase};
use coracle_e2e::{BlockVolume, Cluster, Machine, Namespace, Node, PodFacts, condition, vm_object};
use serde_json::json;

/// The node, and a namespace with the claim `root` that a guest boots from.
pub(crate) async fn place(
    cluster: &Cluster,
    guest: &str,
) -> anyhow::Result<Option<(Node, Namespace, BlockVolume)>> {
    let Some(node) = cluster.node_with_controller().await? else {
        return Ok(None);
    };
    let namespace = Namespace::new(cluster).await?;
    let root = BlockVolume::new(&node, &namespace, "root", guest).await?;
    Ok(Some((node, namespace, root)))
}

#[tokio::test]
async fn an_applied_vm_runs_and_a_deleted_one_leaves_its_claim() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((node, namespace, _root)) = place(&cluster, "power-button").await? else {
        return Ok(());
    };
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", json!({}))).await?;
    let pod = vm.runs(1).await?;
    assert_eq!(pod.name, "web-1");
    pod.says("guest ready").await?;
    let there = pod.get().await?;
    let status = vm.phase_is(Phase::Running).await?;
    assert_eq!(status.node_name.as_deref(), Some(node.name()));
    assert_eq!(status.pod_ip.as_deref(), there.ip());
    let ready = condition(&status, ConditionType::Ready);
    assert_eq!(ready.map(|ready| ready.status.as_str()), Some("True"));

    vm.delete(&pod).await?;
    assert!(namespace.claims().get_opt("root").await?.is_some());
    Ok(())
}

#[tokio::test]
async fn a_halted_vm_stops_and_starts_again_in_a_new_pod() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((_node, namespace, _root)) = place(&cluster, "power-button").await? else {
        return Ok(());
    };
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", json!({}))).await?;
    let first = vm.runs(1).await?;
    first.says("guest ready").await?;
    vm.run_policy("Halted").await?;
    first.gone().await?;
    let halted = vm.phase_is(Phase::Stopped).await?;
    let last = halted.last_termination.map(|last| last.reason);
    assert_eq!(last.as_deref(), Some("Stopped"));
    vm.run_policy("Always").await?;
    vm.runs(2).await?;
    Ok(())
}

#[tokio::test]
async fn a_new_restart_annotation_replaces_the_pod_once() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((_node, namespace, _root)) = place(&cluster, "power-button").await? else {
        return Ok(());
    };
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", json!({}))).await?;
    let first = vm.runs(1).await?;
    vm.annotate(ANNOTATION_RESTART, "2026-01-01T00:00:00Z")
        .await?;
    first.gone().await?;
    let second = vm.runs(2).await?;
    // The same value again is no wish.
    vm.annotate(ANNOTATION_RESTART, "2026-01-01T00:00:00Z")
        .await?;
    vm.merge(json!({"metadata": {"labels": {"touched": "yes"}}}))
        .await?;
    second.says("guest ready").await?;
    vm.runs(2).await?;
    Ok(())
}

#[tokio::test]
async fn a_vm_waits_for_its_claim_and_says_which() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(node) = cluster.node_with_controller().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let root = BlockVolume::without_claim(&node, &namespace, "root", "power-button").await?;
    let vm = Machine::apply(&cluster, &namespace, &vm_object("early", json!({}))).await?;
    let waiting = vm.phase_is(Phase::Pending).await?;
    let disks = condition(&waiting, ConditionType::DisksReady);
    let (status, message) = disks.map_or(("", ""), |disks| (&disks.status, &disks.message));
    assert_eq!(status, "False");
    assert!(message.contains("root"), "{message}");
    root.claim().await?;
    vm.runs(1).await?;
    Ok(())
}

#[tokio::test]
async fn a_claim_that_another_vm_uses_is_refused_until_it_is_free() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((_node, namespace, _root)) = place(&cluster, "power-button").await? else {
        return Ok(());
    };
    let first = Machine::apply(&cluster, &namespace, &vm_object("first", json!({}))).await?;
    let pod = first.runs(1).await?;
    let second = Machine::apply(&cluster, &namespace, &vm_object("second", json!({}))).await?;
    let refused = second.phase_is(Phase::Pending).await?;
    let disks = condition(&refused, ConditionType::DisksReady);
    let message = disks.map_or("", |disks| disks.message.as_str());
    assert!(message.contains("first"), "{message}");
    first.delete(&pod).await?;
    second.runs(1).await?;
    Ok(())
}

#[tokio::test]
async fn each_run_policy_answers_a_guest_that_powers_off() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    for policy in ["Once", "OnFailure", "Always"] {
        let Some((_node, namespace, _root)) = place(&cluster, "hello-poweroff").await? else {
            return Ok(());
        };
        let vm = vm_object("brief", json!({"runPolicy": policy}));
        let vm = Machine::apply(&cluster, &namespace, &vm).await?;
        if policy == "Always" {
            let pods = namespace.pods();
            coracle_e2e::wait_for(&pods, "brief-1", "restarted in place", |pod| {
                pod.is_some_and(|pod| pod.restarts() >= 1)
            })
            .await?;
        } else {
            let ended = vm.phase_is(Phase::Stopped).await?;
            let last = ended.last_termination.map(|last| last.reason);
            assert_eq!(last.as_deref(), Some("GuestShutdown"), "{policy}");
            assert_eq!(ended.incarnation, Some(1), "{policy}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_vms_annotation_pauses_and_resumes_the_guest() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((_node, namespace, _root)) = place(&cluster, "power-button").await? else {
        return Ok(());
    };
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", json!({}))).await?;
    let pod = vm.runs(1).await?;
    pod.says("guest ready").await?;
    // The phase changes with the guest and not before.
    for (phase, state) in [(Phase::Paused, "paused"), (Phase::Running, "running")] {
        vm.annotate(ANNOTATION_DESIRED, &format!("{phase:?}"))
            .await?;
        vm.phase_is(phase).await?;
        let says = cluster
            .kubectl
            .shim(&namespace.name, &pod.name, &["state"])
            .await?;
        assert!(says.contains(&format!("\"{state}\"")), "{phase:?}: {says}");
    }
    Ok(())
}

#[tokio::test]
async fn a_disk_that_cannot_be_opened_is_a_condition_and_no_crash_loop() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some((_node, namespace, _root)) = place(&cluster, "power-button").await? else {
        return Ok(());
    };
    let fields = json!({"podSecurity": {"supplementalGroups": []}});
    let vm = Machine::apply(&cluster, &namespace, &vm_object("outsider", fields)).await?;
    let failed = vm.phase_is(Phase::Failed).await?;
    let ready = condition(&failed, ConditionType::Ready);
    let (reason, message) = ready.map_or(("", ""), |ready| (&ready.reason, &ready.message));
    assert_eq!(reason, "DiskPermission");
    assert!(
        message.contains("spec.podSecurity.supplementalGroups"),
        "{message}"
    );
    Ok(())
}
