//! The overlays of `deploy/`, and the kustomizations that the documentation
//! shows: each is built and put before the API server.

use std::path::Path;

use anyhow::ensure;
use coracle_e2e::{Cluster, Installation, documents};

/// Builds a directory, and lets the API server judge all of it.
async fn is_accepted(cluster: &Cluster, dir: &Path) -> anyhow::Result<String> {
    let dir = dir.display().to_string();
    let dry_run = ["apply", "--dry-run=server", "-k", &dir];
    cluster.kubectl.run(&dry_run).await?;
    cluster.kubectl.run(&["kustomize", &dir]).await
}

#[tokio::test]
async fn every_overlay_is_accepted_and_grants_no_more_than_the_base() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::bare().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    // The objects of a namespace are refused while it is not there.
    let Some(_installation) = Installation::as_shipped().await? else {
        return Ok(());
    };
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let mut overlays = 0;
    for entry in std::fs::read_dir(deploy.join("overlays"))? {
        let overlay = entry?.path();
        let built = is_accepted(&cluster, &overlay).await?;
        ensure!(!built.contains("privileged: true"), "{}", overlay.display());
        overlays += 1;
    }
    assert!(overlays >= 4, "{overlays} overlays");
    is_accepted(&cluster, &deploy.join("device-plugin")).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_in_use_is_asked_where_the_distribution_s_kubelet_tells_it() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::bare().await? else {
        return Ok(());
    };
    let overlays = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/overlays");
    for (overlay, root) in [
        ("passthrough", "/var/lib/kubelet"),
        ("k0s-passthrough", "/var/lib/k0s/kubelet"),
        (
            "microk8s-passthrough",
            "/var/snap/microk8s/common/var/lib/kubelet",
        ),
    ] {
        let dir = overlays.join(overlay).display().to_string();
        let built = cluster.kubectl.run(&["kustomize", &dir]).await?;
        let told = built
            .lines()
            .filter_map(|line| line.trim().strip_prefix("path: "))
            .filter(|path| path.ends_with("/pod-resources"));
        let told: Vec<&str> = told.collect();
        ensure!(
            told == [format!("{root}/pod-resources")],
            "{overlay}: {told:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn every_documented_kustomization_is_accepted() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::bare().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(installation) = Installation::as_shipped().await? else {
        return Ok(());
    };
    let mut seen = 0;
    for file in documents::files()? {
        for block in documents::kustomizations(&file)? {
            seen += 1;
            let name = format!("documented-{seen}");
            let dir = installation.write_kustomization(&name, &block.text)?;
            let accepted = is_accepted(&cluster, &dir).await;
            accepted.map_err(|error| error.context(block.at))?;
        }
    }
    assert!(seen >= 3, "{seen} kustomizations");
    Ok(())
}
