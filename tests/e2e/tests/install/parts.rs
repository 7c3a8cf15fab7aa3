//! What gets ready, and what then works.

use std::process::Command;

use anyhow::Context;
use coracle_api::names::RESOURCE_KVM;
use coracle_e2e::documents::yaml_blocks;
use coracle_e2e::{BlockVolume, Installation, KVM_COUNT, Machine, Namespace, PodFacts, until};
use coracle_tests::program;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;

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
    let Some(cluster) = coracle_e2e::Cluster::bare().await? else {
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
    }
    if kvm_runs_kernels()? {
        return installation.node.allocatable_is(KVM_COUNT).await;
    }
    let unhealthy = format!("resource=\"{RESOURCE_KVM}\" reason=");
    let reason = until("the plugin says why KVM is not healthy", async || {
        let log = installation.log("device-plugin").await?;
        let line = log
            .lines()
            .rfind(|line| line.contains(&unhealthy) && !line.contains("yet"));
        Ok(line.map(str::to_owned))
    });
    let reason = reason.await?;
    assert!(reason.contains("instructions per second"), "{reason}");
    installation.node.allocatable_is(0).await
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
    let Some(cluster) = coracle_e2e::Cluster::bare().await? else {
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
