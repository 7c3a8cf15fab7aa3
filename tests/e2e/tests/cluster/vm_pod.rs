//! The pod of a VM, made by hand: what the kubelet and containerd do with it.

use coracle_api::names::{ANNOTATION_DESIRED, ANNOTATION_MACHINE, exit};
use coracle_api::report::TerminationReason;
use coracle_e2e::{BlockVolume, Cluster, Namespace, Node, PodFacts, VmPod, termination, vm_object};
use coracle_tests::Pattern;
use serde_json::json;

/// A node and a namespace on it, shared with other tests.
async fn place(cluster: &Cluster) -> anyhow::Result<Option<(Node, Namespace)>> {
    let Some(node) = cluster.node() else {
        return Ok(None);
    };
    Ok(Some((node, Namespace::new(cluster).await?)))
}

#[tokio::test]
async fn a_guest_runs_on_its_raw_block_claim_until_the_pod_is_deleted() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some((node, namespace)) = place(&cluster).await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let _root = BlockVolume::new(&node, &namespace, "root", "power-button").await?;
    let vm = VmPod::create(&namespace, &vm_object("web", json!({}))).await?;
    vm.says("guest ready").await?;
    let running = vm
        .wait("ready", |pod| {
            pod.container().is_some_and(|status| status.ready)
        })
        .await?;
    assert_eq!(running.phase(), "Running");

    let last = vm.delete().await?;
    assert_eq!(last.reason, TerminationReason::Stopped, "{last:?}");
    Ok(())
}

#[tokio::test]
async fn a_guest_runs_under_kvm_as_an_ordinary_user() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let namespace = Namespace::new(&cluster).await?;
    let _root = BlockVolume::new(&node, &namespace, "root", "hello-poweroff").await?;
    let fields = json!({"accelerator": "Kvm", "runPolicy": "Once"});
    let vm = VmPod::create(&namespace, &vm_object("fast", fields)).await?;
    let (pod, message) = vm.end().await?;
    assert_eq!(
        message.reason,
        TerminationReason::GuestShutdown,
        "{message:?}"
    );
    assert_eq!(pod.phase(), "Succeeded");
    assert!(vm.console(false).await?.contains("hello from the guest"));
    Ok(())
}

#[tokio::test]
async fn what_a_guest_has_written_is_on_the_volume_when_its_pod_is_gone() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some((node, namespace)) = place(&cluster).await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let root = BlockVolume::new(&node, &namespace, "root", "write-sector").await?;
    let before = root.disk.read()?;
    let vm = VmPod::create(&namespace, &vm_object("writer", json!({}))).await?;
    vm.says("wrote").await?;
    let last = vm.delete().await?;
    assert_eq!(last.reason, TerminationReason::Stopped, "{last:?}");
    assert!(
        root.disk.read()? == Pattern::on(&before),
        "the disk is not as the guest left it"
    );
    Ok(())
}

#[tokio::test]
async fn a_crashed_guest_starts_again_in_the_same_pod() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some((node, namespace)) = place(&cluster).await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let _root = BlockVolume::new(&node, &namespace, "root", "panic").await?;
    let fields = json!({"runPolicy": "OnFailure"});
    let vm = VmPod::create(&namespace, &vm_object("shaky", fields)).await?;
    let first = vm.wait("has an address", |pod| pod.ip().is_some()).await?;
    let again = vm.wait("restarted", |pod| pod.restarts() >= 1).await?;
    assert_eq!(again.metadata.uid, first.metadata.uid);
    assert_eq!(again.ip(), first.ip());
    let message = termination(&again).map(|message| message.reason);
    assert_eq!(message, Some(TerminationReason::GuestPanicked));
    Ok(())
}

#[tokio::test]
async fn a_guest_that_powers_off_starts_again_under_always_alone() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some((node, namespace)) = place(&cluster).await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let _root = BlockVolume::new(&node, &namespace, "root", "hello-poweroff").await?;
    for policy in ["OnFailure", "Once"] {
        let name = policy.to_lowercase();
        let vm = vm_object(&name, json!({"runPolicy": policy}));
        let vm = VmPod::create(&namespace, &vm).await?;
        let (pod, message) = vm.end().await?;
        assert_eq!(message.reason, TerminationReason::GuestShutdown, "{policy}");
        assert_eq!((pod.phase(), pod.restarts()), ("Succeeded", 0), "{policy}");
    }
    let vm = vm_object("always", json!({"runPolicy": "Always"}));
    let vm = VmPod::create(&namespace, &vm).await?;
    vm.wait("restarted", |pod| pod.restarts() >= 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_machine_description_ends_the_pod_and_is_not_tried_again() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some((node, namespace)) = place(&cluster).await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let _root = BlockVolume::new(&node, &namespace, "root", "power-button").await?;
    let mut pod = VmPod::build(&namespace, &vm_object("wrong", json!({}))).await?;
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(
        ANNOTATION_MACHINE.into(),
        r#"{"version": 1, "cpus": "many"}"#.into(),
    );
    let vm = VmPod::make(&namespace, &pod).await?;
    let (pod, message) = vm.end().await?;
    assert_eq!(pod.exit_code(), Some(exit::CONFIG.into()), "{message:?}");
    assert_eq!(message.reason, TerminationReason::InvalidMachine);
    assert_eq!((pod.phase(), pod.restarts()), ("Failed", 0));
    Ok(())
}

#[tokio::test]
async fn a_device_that_the_vms_groups_cannot_open_ends_the_pod_with_advice() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some((node, namespace)) = place(&cluster).await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let _root = BlockVolume::new(&node, &namespace, "root", "power-button").await?;
    let fields = json!({"podSecurity": {"supplementalGroups": []}});
    let vm = VmPod::create(&namespace, &vm_object("outsider", fields)).await?;
    let (pod, message) = vm.end().await?;
    assert_eq!(pod.exit_code(), Some(exit::HOST.into()), "{message:?}");
    assert_eq!(message.reason, TerminationReason::DiskPermission);
    assert_eq!(message.disk.as_deref(), Some("root"));
    assert!(
        message
            .message
            .contains("spec.podSecurity.supplementalGroups"),
        "{message:?}"
    );
    assert_eq!(pod.restarts(), 0);
    Ok(())
}

#[tokio::test]
async fn the_annotation_pauses_and_resumes_the_guest() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some((node, namespace)) = place(&cluster).await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let _root = BlockVolume::new(&node, &namespace, "root", "power-button").await?;
    let vm = VmPod::create(&namespace, &vm_object("paused", json!({}))).await?;
    vm.says("guest ready").await?;
    for (wanted, status) in [("Paused", "paused"), ("Running", "running")] {
        vm.annotate(ANNOTATION_DESIRED, wanted).await?;
        coracle_e2e::until(&format!("the guest is {status}"), async || {
            let state = cluster
                .kubectl
                .shim(&namespace.name, &vm.name, &["state"])
                .await?;
            Ok(state.contains(&format!("\"{status}\"")).then_some(()))
        })
        .await?;
    }
    Ok(())
}
