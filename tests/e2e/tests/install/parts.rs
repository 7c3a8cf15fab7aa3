//! What gets ready, and what then works.

use std::process::Command;

use anyhow::Context;
use coracle_api::names::RESOURCE_KVM;
use coracle_e2e::documents::yaml_blocks;
use coracle_e2e::{
    BlockVolume, Cluster, Installation, KVM_COUNT, Machine, Namespace, PodFacts, until, vm_object,
};
use coracle_tests::program;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::json;

/// Whether KVM here gets as far as a kernel needs: told by the plugin's
/// program on the node, where nothing keeps it from the device.
fn kvm_runs_kernels() -> anyhow::Result<bool> {
    let probe = Command::new(program("coracle-device-plugin")?)
        .arg("probe")
        .output()?;
    Ok(probe.status.success())
}

#[tokio::test]
async fn as_shipped_every_part_gets_ready_and_kvm_is_what_the_prober_found() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::bare().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(installation) = Installation::as_shipped().await? else {
        return Ok(());
    };
    for pod in installation.pods().list(&ListParams::default()).await? {
        let name = pod.metadata.name.clone().unwrap_or_default();
        assert_eq!(pod.restarts(), 0, "{name}");
        assert!(!privileged(&pod), "{name}");
        let has_token = serde_json::to_string(&pod.spec)?.contains("serviceAccountToken");
        assert_eq!(has_token, name.starts_with("coracle-controller"), "{name}");
    }
    if kvm_runs_kernels()? {
        return installation.node.allocatable_is(KVM_COUNT).await;
    }
    let unhealthy = format!("unhealthy resource=\"{RESOURCE_KVM}\"");
    let reason = until("the plugin says why KVM is not healthy", async || {
        let log = installation.log("device-plugin").await?;
        let line = log
            .lines()
            .rfind(|line| line.contains(&unhealthy) && !line.contains("reported yet"));
        Ok(line.map(str::to_owned))
    });
    let reason = match reason.await {
        Ok(reason) => reason,
        Err(error) => {
            let plugin = installation.log("device-plugin").await?;
            let prober = installation.log("prober").await?;
            anyhow::bail!("{error}; the plugin says:\n{plugin}\nand the prober:\n{prober}");
        }
    };
    assert!(reason.contains("instructions per second"), "{reason}");
    installation.node.allocatable_is(0).await
}

/// Also on a cluster that was here before, when Coracle is installed there.
#[tokio::test]
async fn what_is_installed_runs_a_vm_that_needs_nothing_of_the_cluster() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::bare().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let installed = if cluster.is_own() {
        Installation::as_shipped().await?.is_some()
    } else {
        cluster.granted().await?
    };
    if !installed {
        return Ok(());
    }
    let namespace = Namespace::new(&cluster).await?;
    // Nothing boots from an empty disk, and the firmware says so for ever.
    let fields = json!({"disks": [{"name": "empty", "ephemeral": {"size": "16Mi"}}]});
    let vm = Machine::apply(&cluster, &namespace, &vm_object("empty", fields)).await?;
    let pod = vm.runs(1).await?;
    vm.delete(&pod).await
}

fn privileged(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .filter_map(|container| container.security_context.as_ref())
        .any(|context| {
            context.privileged == Some(true) || context.allow_privilege_escalation != Some(false)
        })
}

#[tokio::test]
async fn the_vm_of_the_readme_runs_once_a_guest_has_run_on_the_nodes_kvm() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::bare().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(installation) = Installation::at_level_run().await? else {
        return Ok(());
    };
    installation.node.allocatable_is(KVM_COUNT).await?;
    let log = installation.log("device-plugin").await?;
    assert!(log.contains("the prober judges the device"), "{log}");

    let documented = yaml_blocks("README.md")?;
    let documented = documented.first().context("the README shows a VM")?;
    let vm = documented.objects()?.pop().context("it is one object")?;
    let namespace = Namespace::new(&installation.cluster).await?;
    let _root =
        BlockVolume::new(&installation.node, &namespace, "web-root", "power-button").await?;
    let vm = Machine::apply(&installation.cluster, &namespace, &vm).await?;
    let pod = vm.runs(1).await?;
    pod.says("guest ready").await?;
    vm.delete(&pod).await
}
