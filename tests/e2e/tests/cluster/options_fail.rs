//! A kubelet that cannot ask the plugin for its options (Kubernetes'
//! `test/e2e_node/device_plugin_failures_test.go`).
//!
//! The plugin never fails to tell them. So it is given another directory for the
//! kubelet's, from where it reaches the real kubelet; the real kubelet looks for
//! the plugin's socket in its own directory, and finds there what the test puts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use coracle_e2e::{
    Cluster, DeviceNodes, Namespace, OwnPlugin, PATIENCE, PodFacts, plain_pod, until, wait_for,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use serde_json::json;

const RESOURCE: &str = "example.com/options";
const BUSYBOX: &str = "coracle.dev/e2e-busybox:1";
/// Where the kubelet looks for plugins.
const KUBELETS: &str = "/var/lib/kubelet/device-plugins";
/// A server of gRPC that is no device plugin.
const NO_PLUGIN: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";

/// The plugin's directory for plugins, and what the kubelet finds in its own;
/// gone with the test.
struct Apart {
    dir: PathBuf,
    shown: Option<PathBuf>,
}

impl Apart {
    fn new() -> anyhow::Result<Self> {
        // In the same mount, so that one socket can be in both.
        let dir = Path::new("/var/lib/kubelet").join("e2e-options");
        fs::create_dir_all(&dir)?;
        let socket = "kubelet.sock";
        fs::hard_link(Path::new(KUBELETS).join(socket), dir.join(socket))?;
        Ok(Self { dir, shown: None })
    }

    /// The socket that the plugin serves.
    fn served(&self) -> anyhow::Result<Option<PathBuf>> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name() != "kubelet.sock" {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }

    /// Shows the kubelet a socket in the place of the plugin's.
    fn show(&mut self, name: &Path, socket: &Path) -> anyhow::Result<()> {
        let name = name.file_name().context("a file's name")?;
        let shown = Path::new(KUBELETS).join(name);
        let new = shown.with_extension("new");
        symlink(socket, &new)?;
        fs::rename(&new, &shown)?;
        self.shown = Some(shown);
        Ok(())
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
        if let Some(shown) = &self.shown {
            let _ = fs::remove_file(shown);
        }
    }
}

#[tokio::test]
async fn when_get_device_plugin_options_fails_device_plugin_will_not_be_used() -> anyhow::Result<()>
{
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let _nodes = DeviceNodes::named("options", 1)?;
    let glob = DeviceNodes::glob("options");
    let line = format!("- {{name: {RESOURCE}, chardev: [{{glob: \"{glob}\"}}]}}\n");
    let mut apart = Apart::new()?;
    let dir = apart.dir.display().to_string();
    let plugin = OwnPlugin::start(&node, "options", &line, &["--kubelet-dir", &dir])?;
    let serves = until("the plugin serves", async || apart.served());
    let socket = serves.await?;
    apart.show(&socket, Path::new(NO_PLUGIN))?;
    until("the kubelet has refused it three times", async || {
        let log = plugin.log()?;
        let refused = log.matches("failed to get device plugin options").count();
        Ok((refused >= 3).then_some(()))
    })
    .await?;
    let offer = node.offer(RESOURCE).await?;
    ensure!(offer.is_none(), "it is used: {offer:?}");

    // And when they do not fail any more, it is.
    apart.show(&socket, &socket)?;
    node.offer_is(RESOURCE, (1, 1), PATIENCE).await?;
    let namespace = Namespace::new(&cluster).await?;
    let pods = namespace.pods();
    let pod = plain_pod(
        "options",
        BUSYBOX,
        &["sleep", "3600"],
        json!({RESOURCE: "1"}),
    );
    pods.create(&PostParams::default(), &pod).await?;
    let runs = |pod: Option<&Pod>| pod.is_some_and(PodFacts::runs);
    wait_for(&pods, "options", "it runs", runs).await?;
    Ok(())
}
