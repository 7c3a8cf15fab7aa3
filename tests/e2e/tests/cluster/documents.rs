//! The manifests of the documentation, before the API server. The
//! kustomizations are tried by the suite `install`.

use anyhow::{Context, ensure};
use coracle_e2e::{Cluster, Namespace, documents};

#[tokio::test]
async fn every_documented_manifest_is_accepted() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let namespace = Namespace::new(&cluster).await?;
    let dry_run = [
        "apply",
        "--dry-run=server",
        "-n",
        &namespace.name,
        "-f",
        "-",
    ];
    let (mut vms, mut others) = (0, 0);
    for file in documents::files()? {
        for block in documents::yaml_blocks(&file)? {
            for object in block.objects()? {
                match object["kind"].as_str() {
                    Some("Kustomization") => continue,
                    Some("VirtualMachine") => vms += 1,
                    _ => others += 1,
                }
                let text = object.to_string();
                let called = cluster.kubectl.call_with(&dry_run, &text).await?;
                called.output().with_context(|| {
                    format!("{}: the API server refuses what is shown here", block.at)
                })?;
            }
        }
    }
    ensure!(vms >= 2, "{vms} VMs in the documentation");
    ensure!(others >= 2, "{others} other objects in the documentation");
    Ok(())
}
