//! docs/storage.md: what it shows is applied, on the tests' storage.

use anyhow::Context;
use coracle_e2e::documents::yaml_blocks;
use coracle_e2e::{Cluster, Csi, Machine, Namespace, as_udev_leaves_it};
use coracle_tests::LoopDisk;
use serde_json::{Value, json};

const PAGE: &str = "docs/storage.md";

/// The objects of the block that has a VM of this name.
fn example(vm: &str) -> anyhow::Result<Vec<Value>> {
    for block in yaml_blocks(PAGE)? {
        let objects = block.objects()?;
        let mut machines = objects.iter().filter(|object| is(object, "VirtualMachine"));
        if machines.any(|machine| machine["metadata"]["name"] == vm) {
            return Ok(objects);
        }
    }
    anyhow::bail!("{PAGE} shows no VM {vm}")
}

fn is(object: &Value, kind: &str) -> bool {
    object["kind"] == kind
}

/// Applies an example as it stands, but for `change`, until its VM runs, and
/// takes it away again.
async fn runs(
    cluster: &Cluster,
    namespace: &Namespace,
    objects: Vec<Value>,
    change: impl Fn(&mut Value),
) -> anyhow::Result<()> {
    let mut machine = None;
    for mut object in objects {
        change(&mut object);
        if is(&object, "VirtualMachine") {
            // Not what is shown, and there is no guest on the disk that would
            // hear the power button.
            object["spec"]["accelerator"] = json!("Emulation");
            object["spec"]["terminationGracePeriodSeconds"] = json!(5);
            machine = Some(Machine::apply(cluster, namespace, &object).await?);
        } else {
            if is(&object, "PersistentVolumeClaim") {
                object["metadata"]["namespace"] = json!(namespace.name);
            }
            cluster.kubectl.apply(&object).await?;
        }
    }
    let machine = machine.context("an example has a VM")?;
    let pod = machine.runs(1).await?;
    machine.delete(&pod).await
}

#[tokio::test]
async fn the_dynamic_example_runs() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(csi) = Csi::get(&cluster).await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    runs(&cluster, &namespace, example("web")?, |object| {
        if is(object, "PersistentVolumeClaim") {
            object["spec"]["storageClassName"] = json!(Csi::LATE);
        }
    })
    .await?;
    csi.bound(&namespace, "web-root").await?.is_free().await
}

#[tokio::test]
async fn the_static_example_runs() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(node) = cluster.node_with_controller().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let disk = LoopDisk::new(node.dir(), "documented", &[], 1 << 30)?;
    as_udev_leaves_it(disk.path())?;
    runs(&cluster, &namespace, example("database")?, |object| {
        if is(object, "PersistentVolume") {
            object["spec"]["local"]["path"] = json!(disk.path());
            object["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"]
                [0]["values"] = json!([node.name()]);
        }
    })
    .await?;
    let volume = ["delete", "persistentvolume", "node1-disk7", "--wait=false"];
    cluster.kubectl.run(&volume).await?;
    Ok(())
}
