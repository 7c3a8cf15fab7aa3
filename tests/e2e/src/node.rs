//! The node's programs, in the tests' hands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use coracle_api::names::RESOURCE_KVM;
use k8s_openapi::api::core::v1::{Node as Object, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Api;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::cluster::{Cluster, repository};
use crate::image::Image;
use crate::pod::PodFacts;
use crate::wait::{until_within, wait_for};

/// How many slots the device plugin offers.
pub const KVM_COUNT: u32 = 1000;
/// The first node, which is there all the time.
pub(crate) const FIRST: &str = "node1";
/// Where the controller listens when it is a program of the node.
const CONTROLLER: &str = "127.0.0.1:8080";

/// A program of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// The node's kubelet.
    Kubelet,
    /// The node's containerd.
    Containerd,
    /// Our device plugin, as a program of the node.
    DevicePlugin,
    /// Our controller, with the rights of its service account.
    Controller,
    /// The CSI driver of the tests.
    CsiDriver,
    /// external-provisioner for it.
    CsiProvisioner,
    /// external-resizer for it.
    CsiResizer,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "apiserver",
            Self::Kubelet => "kubelet",
            Self::Containerd => "containerd",
            Self::DevicePlugin => "device_plugin",
            Self::Controller => "controller",
            Self::CsiDriver => "csi_driver",
            Self::CsiProvisioner => "csi_provisioner",
            Self::CsiResizer => "csi_resizer",
        }
    }
}

/// A node and its programs.
#[derive(Clone)]
pub struct Node {
    name: String,
    dir: PathBuf,
    cluster: Cluster,
}

impl Node {
    pub(crate) fn new(name: String, dir: PathBuf, cluster: Cluster) -> Self {
        Self { name, dir, cluster }
    }

    /// Its name in the API.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A directory for files of the tests; removed with the cluster.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts a program that does not run.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(&self, component: Component) -> anyhow::Result<()> {
        self.component("start", component).await
    }

    /// Asks a program to end, and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&self, component: Component) -> anyhow::Result<()> {
        self.component("stop", component).await
    }

    /// Kills a program, and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn kill(&self, component: Component) -> anyhow::Result<()> {
        self.component("kill", component).await
    }

    async fn component(&self, action: &str, component: Component) -> anyhow::Result<()> {
        script("component.sh", &[action, component.name(), &self.name]).await
    }

    /// Arguments for the controller when it is started next, until what is
    /// returned is dropped.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn controller_arguments(&self, arguments: &str) -> anyhow::Result<Arguments> {
        let file = self.dir.join("run/controller.arguments");
        std::fs::write(&file, arguments)?;
        Ok(Arguments { file })
    }

    /// What the controller, as a program of the node, counts.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn controller_metrics(&self) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(CONTROLLER).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.0 200"), "{answer}");
        Ok(answer)
    }

    /// Gives an image of the node another name.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn tag_image(&self, from: &str, to: &str) -> anyhow::Result<()> {
        ctr(&["images", "tag", "--force", from, to]).await?;
        Ok(())
    }

    /// Gives the node a container image under this name.
    ///
    /// # Errors
    /// When its runtime does not take it.
    pub async fn load_image(&self, name: &str, image: &Image) -> anyhow::Result<()> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let archive = self.dir.join(format!("image-{number}.tar"));
        std::fs::write(&archive, image.archive(name)?)?;
        let path = archive.to_str().context("a path in UTF-8")?;
        ctr(&["images", "import", path]).await?;
        std::fs::remove_file(&archive)?;
        Ok(())
    }

    /// Kills the container of a pod, behind the kubelet's back.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill_container(&self, pod: &Pod) -> anyhow::Result<()> {
        let id = container_id(pod)?;
        ctr(&["tasks", "kill", "--signal", "SIGKILL", id]).await?;
        Ok(())
    }

    /// How the runtime was told to make the container of a pod: its OCI
    /// configuration.
    ///
    /// # Errors
    /// When the runtime has no such container.
    pub async fn container_spec(&self, pod: &Pod) -> anyhow::Result<Value> {
        let told = ctr(&["containers", "info", container_id(pod)?]).await?;
        let mut told: Value = serde_json::from_str(&told)?;
        Ok(told["Spec"].take())
    }

    /// The node's container runtime and its version, as Kubernetes has them.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn runtime(&self) -> anyhow::Result<String> {
        let node = self.api().get(&self.name).await?;
        let info = node.status.and_then(|status| status.node_info);
        let info = info.context("a node that is ready tells of itself")?;
        Ok(info.container_runtime_version)
    }

    /// What a program has logged since the cluster's start.
    ///
    /// # Errors
    /// When it was never started.
    pub fn log(&self, component: Component) -> anyhow::Result<String> {
        let name = format!("logs/{}-{}.log", component.name(), self.name);
        let file = self.dir.join(name);
        std::fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    /// The object in the API.
    #[must_use]
    pub fn api(&self) -> Api<Object> {
        Api::all(self.cluster.client.clone())
    }

    /// Waits until the node offers this many slots of KVM.
    ///
    /// # Errors
    /// When it does not.
    pub async fn allocatable_is(&self, count: u32) -> anyhow::Result<()> {
        self.offers(RESOURCE_KVM, count).await
    }

    /// Waits until the node offers so much of a resource.
    ///
    /// # Errors
    /// When it does not.
    pub async fn offers(&self, resource: &str, count: u32) -> anyhow::Result<()> {
        let what = format!("allocatable {resource} is {count}");
        wait_for(&self.api(), &self.name, &what, |node| {
            node.is_some_and(|node| allocatable(node, resource) == Some(count))
        })
        .await?;
        Ok(())
    }

    /// How much of a resource can be had of how much there is, as Kubernetes
    /// has it; `None` when the node never offered any.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn offer(&self, resource: &str) -> anyhow::Result<Option<(u32, u32)>> {
        let node = self.api().get(&self.name).await?;
        let status = node.status.unwrap_or_default();
        let of = |all: Option<_>| quantity(all.as_ref(), resource);
        let (allocatable, capacity) = (of(status.allocatable), of(status.capacity));
        Ok(allocatable.zip(capacity))
    }

    /// Waits until so much of a resource can be had of so much.
    ///
    /// # Errors
    /// When it does not come to that within `patience`.
    pub async fn offer_is(
        &self,
        resource: &str,
        wanted: (u32, u32),
        patience: Duration,
    ) -> anyhow::Result<()> {
        let what = format!("{resource}: allocatable and capacity are {wanted:?}");
        until_within(patience, &what, async || {
            Ok((self.offer(resource).await? == Some(wanted)).then_some(()))
        })
        .await
    }

    /// Waits until the node is ready, or is not.
    ///
    /// # Errors
    /// When it does not become so.
    pub async fn ready_is(&self, ready: &str) -> anyhow::Result<()> {
        let what = format!("Ready is {ready}");
        wait_for(&self.api(), &self.name, &what, |node| {
            let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
            conditions
                .into_iter()
                .flatten()
                .any(|condition| condition.type_ == "Ready" && condition.status == ready)
        })
        .await?;
        Ok(())
    }
}

/// The runtime's name of the container of a pod.
fn container_id(pod: &Pod) -> anyhow::Result<&str> {
    let id = pod.container().and_then(|c| c.container_id.as_deref());
    let id = id.and_then(|id| id.strip_prefix("containerd://"));
    id.context("a container of containerd")
}

/// Asks the node's containerd, and returns what it says.
async fn ctr(arguments: &[&str]) -> anyhow::Result<String> {
    let address = ["--address", "/run/containerd/containerd.sock"];
    let asked = Command::new("ctr")
        .args(address)
        .args(["--namespace", "k8s.io"])
        .args(arguments)
        .output()
        .await
        .context("ctr cannot be run")?;
    let said = String::from_utf8_lossy(&asked.stderr);
    ensure!(asked.status.success(), "{}: {said}", arguments.join(" "));
    Ok(String::from_utf8_lossy(&asked.stdout).into_owned())
}

/// Runs a script of the cluster's to its end.
pub(crate) async fn script(name: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let path = repository().join("tests/e2e/cluster").join(name);
    let ended = Command::new(&path)
        .args(arguments)
        .output()
        .await
        .with_context(|| format!("{} cannot be run", path.display()))?;
    ensure!(
        ended.status.success(),
        "{name} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&ended.stderr)
    );
    Ok(())
}

/// Arguments that a program is started with; no more once this is dropped.
#[must_use]
pub struct Arguments {
    file: PathBuf,
}

impl Drop for Arguments {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// How much of a resource a node offers; `None` when it never offered any.
fn allocatable(node: &Object, resource: &str) -> Option<u32> {
    quantity(node.status.as_ref()?.allocatable.as_ref(), resource)
}

fn quantity(all: Option<&BTreeMap<String, Quantity>>, resource: &str) -> Option<u32> {
    let text = all?.get(resource)?.0.as_str();
    match text.strip_suffix('k') {
        Some(thousands) => Some(thousands.parse::<u32>().ok()? * 1000),
        None => text.parse().ok(),
    }
}
