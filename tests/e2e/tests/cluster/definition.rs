//! The custom resource: what the API server makes of a manifest.

use anyhow::Context;
use coracle_api::vm::{RunPolicy, VirtualMachine};
use coracle_e2e::{Cluster, Namespace, vm_object};
use kube::Api;
use serde_json::json;

#[tokio::test]
async fn the_least_manifest_is_filled_with_every_default() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let namespace = Namespace::new(&cluster).await?;
    let least = json!({
        "apiVersion": "coracle.dev/v1alpha1",
        "kind": "VirtualMachine",
        "metadata": {"name": "least", "namespace": namespace.name},
        "spec": {"memory": "64Mi", "disks": [{"name": "root", "claim": {"name": "root"}}]},
    });
    cluster.kubectl.apply(&least).await?;
    let text = ["get", "cvm", "least", "-n", &namespace.name, "-o", "json"];
    let made: serde_json::Value = serde_json::from_str(&cluster.kubectl.run(&text).await?)?;
    assert_eq!(
        made["spec"],
        json!({
            "runPolicy": "Always",
            "accelerator": "Kvm",
            "cpus": 1,
            "memory": "64Mi",
            "terminationGracePeriodSeconds": 60,
            "disks": [{
                "name": "root",
                "claim": {"name": "root"},
                "bus": "Virtio",
                "cache": "None",
                "io": made["spec"]["disks"][0]["io"],
                "discard": made["spec"]["disks"][0]["discard"],
                "errorPolicy": made["spec"]["disks"][0]["errorPolicy"],
                "detectZeroes": made["spec"]["disks"][0]["detectZeroes"],
                "type": "Disk",
                "readOnly": false,
                "shareable": false,
                "iothread": false,
            }],
        })
    );
    // And the same where there is no API server: the types' own defaults.
    let vms: Api<VirtualMachine> = namespace.api();
    let theirs = vms.get("least").await?;
    let ours: VirtualMachine = serde_json::from_value(least)?;
    assert_eq!(theirs.spec, ours.spec);
    assert_eq!(theirs.spec.run_policy, RunPolicy::Always);
    Ok(())
}

#[tokio::test]
async fn a_vm_is_listed_by_its_short_name_with_its_columns() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let namespace = Namespace::new(&cluster).await?;
    let mut vm = vm_object("listed", json!({"runPolicy": "Halted"}));
    vm["metadata"]["namespace"] = json!(namespace.name);
    cluster.kubectl.apply(&vm).await?;
    let wide = ["get", "cvm", "-o", "wide", "-n", &namespace.name];
    let table = cluster.kubectl.run(&wide).await?;
    let head = table.lines().next().context("a table has a head")?;
    let columns: Vec<&str> = head.split_whitespace().collect();
    assert_eq!(
        columns,
        [
            "NAME", "PHASE", "READY", "NODE", "IP", "AGE", "CPUS", "MEMORY", "POD"
        ]
    );
    let all = ["get", "all", "-n", &namespace.name];
    let all = cluster.kubectl.run(&all).await?;
    assert!(all.contains("virtualmachine.coracle.dev/listed"));
    let explained = ["explain", "cvm.spec.runPolicy"];
    let explained = cluster.kubectl.run(&explained).await?;
    assert!(explained.contains("also after the guest powers off"));
    Ok(())
}
