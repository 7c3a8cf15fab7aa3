//! The component `memory-lock`: the device plugin in its pod as a plugin of the
//! container runtime too, whether that takes plugins or not.
//!
//! Which containers may lock memory then: the suite `cluster`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use coracle_api::names::RESOURCE_TUN;
use coracle_e2e::{
    Cluster, Component, Installation, Namespace, Node, PodFacts, plain_pod, until, wait_for,
};
use coracle_tests::skip;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use serde_json::json;

const BUSYBOX: &str = "coracle.dev/e2e-busybox:1";
const SOCKET: &str = "/var/run/nri/nri.sock";
/// Switches it off.
const NO_NRI: &str = "[plugins.\"io.containerd.nri.v1.nri\"]\ndisable = true\n";

/// The runtime's configuration without its socket for plugins, until this is
/// dropped.
struct NoNri {
    file: PathBuf,
    before: String,
}

impl NoNri {
    fn configure(node: &Node) -> anyhow::Result<Self> {
        let file = node.dir().join(node.name()).join("containerd.toml");
        let before = fs::read_to_string(&file).context("containerd's configuration")?;
        fs::write(&file, format!("{before}{NO_NRI}"))?;
        Ok(Self { file, before })
    }
}

impl Drop for NoNri {
    fn drop(&mut self) {
        let _ = fs::write(&self.file, &self.before);
    }
}

async fn restart_runtime(node: &Node) -> anyhow::Result<()> {
    node.stop(Component::Containerd).await?;
    node.start(Component::Containerd).await?;
    node.ready_is("True").await
}

/// Waits until the plugin says so of the runtime.
async fn connected(installation: &Installation, is: bool) -> anyhow::Result<()> {
    let line = format!("coracle_device_plugin_nri_connected {}", u8::from(is));
    until(&line, async || {
        // Whoever is asked over the network may not answer while it changes.
        let metrics = installation.plugin_metrics().await.unwrap_or_default();
        Ok(metrics.lines().any(|told| told == line).then_some(()))
    })
    .await
}

/// A pod that finds a device of the plugin's.
async fn a_device_is_given(namespace: &Namespace, name: &str) -> anyhow::Result<()> {
    let command = ["sh", "-c", "test -c /dev/net/tun"];
    let pod = plain_pod(name, BUSYBOX, &command, json!({RESOURCE_TUN: "1"}));
    let pods = namespace.pods();
    pods.create(&PostParams::default(), &pod).await?;
    let ended = wait_for(&pods, name, "ended", |pod: Option<&Pod>| {
        pod.is_some_and(|pod| pod.exit_code().is_some())
    });
    let ended = ended.await?.context("it is there")?;
    ensure!(ended.exit_code() == Some(0), "{name}: {:#?}", ended.status);
    Ok(())
}

#[tokio::test]
async fn with_memory_lock_the_plugin_serves_while_the_runtime_takes_plugins_and_while_not()
-> anyhow::Result<()> {
    let Some(cluster) = Cluster::bare().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    if !Path::new("/dev/net/tun").exists() {
        skip("there is no /dev/net/tun");
        return Ok(());
    }
    let Some(installation) = Installation::with_memory_lock().await? else {
        return Ok(());
    };
    if !Path::new(SOCKET).exists() {
        skip("the container runtime has no NRI");
        return Ok(());
    }
    let namespace = Namespace::new(&cluster).await?;
    connected(&installation, true).await?;
    a_device_is_given(&namespace, "with").await?;

    let node = &installation.node;
    let without = NoNri::configure(node)?;
    restart_runtime(node).await?;
    connected(&installation, false).await?;
    a_device_is_given(&namespace, "without").await?;
    drop(without);
    restart_runtime(node).await?;
    connected(&installation, true).await?;
    for pod in installation.pods().list(&ListParams::default()).await? {
        let name = pod.metadata.name.clone().unwrap_or_default();
        assert_eq!(pod.restarts(), 0, "{name}");
    }
    Ok(())
}
