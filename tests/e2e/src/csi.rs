//! A CSI driver on the node, with Kubernetes' own external-provisioner and
//! external-resizer: claims are answered by it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use coracle_test_csi::proto::controller_client::ControllerClient;
use coracle_tests::{Logbook, guest, skip};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::CSINode;
use kube::Api;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;
use tonic::transport::{Channel, Endpoint};

use crate::cluster::{Cluster, repository};
use crate::namespace::Namespace;
use crate::node::{Component, Node};
use crate::wait::{until, wait_for};

/// Where the driver is, as the kubelet dials it.
const SOCKET: &str = "/var/lib/kubelet/plugins/loop.csi.coracle.dev/csi.sock";
/// What a cluster's administrator installs.
const MANIFESTS: &str = "tests/e2e/cluster/csi.yaml";
/// The programs that it takes.
const PROGRAMS: [&str; 3] = ["coracle-test-csi", "csi-provisioner", "csi-resizer"];

/// The driver.
#[derive(Clone)]
pub struct Csi {
    /// The node that it is on.
    pub node: Node,
    cluster: Cluster,
}

impl Csi {
    /// The class whose volumes are made when a pod needs them.
    pub const LATE: &str = "loop";
    /// The class whose volumes are made at once.
    pub const AT_ONCE: &str = "loop-immediate";

    /// The driver, its controllers and Coracle's; `None`, after saying why,
    /// where there is no node in our hands or a program is missing.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn get(cluster: &Cluster) -> anyhow::Result<Option<Self>> {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        let Some(node) = cluster.node_with_controller().await? else {
            return Ok(None);
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs: Vec<_> = std::env::split_paths(&path).collect();
        for program in PROGRAMS {
            if !dirs.iter().any(|dir| dir.join(program).exists()) {
                skip(&format!("{program} is not built"));
                return Ok(None);
            }
        }
        let csi = Self {
            node,
            cluster: cluster.clone(),
        };
        INSTALLED.get_or_try_init(|| csi.install()).await?;
        Ok(Some(csi))
    }

    async fn install(&self) -> anyhow::Result<()> {
        let file = repository().join(MANIFESTS).display().to_string();
        self.cluster.kubectl.run(&["apply", "-f", &file]).await?;
        self.start().await
    }

    /// Starts the driver, and its controllers once the kubelet has it.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.node.start(Component::CsiDriver).await?;
        self.is_registered().await?;
        self.node.start(Component::CsiProvisioner).await?;
        self.node.start(Component::CsiResizer).await
    }

    /// Kills the driver and its controllers, which end without it.
    ///
    /// # Errors
    /// When one of them stays.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.node.kill(Component::CsiDriver).await?;
        self.node.kill(Component::CsiProvisioner).await?;
        self.node.kill(Component::CsiResizer).await
    }

    /// Waits until the kubelet has the driver.
    async fn is_registered(&self) -> anyhow::Result<()> {
        let nodes: Api<CSINode> = Api::all(self.cluster.client.clone());
        wait_for(&nodes, self.node.name(), "has the driver", |node| {
            let drivers = node.map(|node| node.spec.drivers.as_slice());
            let mut drivers = drivers.unwrap_or_default().iter();
            drivers.any(|driver| driver.name == coracle_test_csi::NAME)
        })
        .await?;
        Ok(())
    }

    /// Calls the driver as its controllers do.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn controller(&self) -> anyhow::Result<ControllerClient<Channel>> {
        let endpoint = Endpoint::from_shared(format!("unix://{SOCKET}"))?;
        Ok(ControllerClient::new(endpoint.connect().await?))
    }

    /// The volume with this handle.
    #[must_use]
    pub fn volume(&self, handle: &str) -> CsiVolume {
        CsiVolume {
            handle: handle.to_owned(),
            file: self
                .node
                .dir()
                .join("csi/volumes")
                .join(handle)
                .join("data"),
        }
    }

    /// The volume that a claim is bound to.
    ///
    /// # Errors
    /// When it is not bound, or not to one of the driver.
    pub async fn bound(&self, namespace: &Namespace, claim: &str) -> anyhow::Result<CsiVolume> {
        let claims = namespace.claims();
        let bound = wait_for(
            &claims,
            claim,
            "bound",
            |claim: Option<&PersistentVolumeClaim>| {
                claim.is_some_and(|claim| phase(claim) == "Bound")
            },
        );
        let name = bound.await?.and_then(|claim| claim.spec?.volume_name);
        let volumes: Api<PersistentVolume> = Api::all(self.cluster.client.clone());
        let volume = volumes
            .get(&name.context("a bound claim names its volume")?)
            .await?;
        let csi = volume
            .spec
            .and_then(|spec| spec.csi)
            .context("a CSI volume")?;
        ensure!(csi.driver == coracle_test_csi::NAME, "{}", csi.driver);
        Ok(self.volume(&csi.volume_handle))
    }

    /// Makes a claim that is bound at once, with a guest's disk on its volume.
    ///
    /// # Errors
    /// When it is not bound.
    pub async fn golden(
        &self,
        namespace: &Namespace,
        name: &str,
        content: &str,
    ) -> anyhow::Result<CsiVolume> {
        let mut claim = block_claim(name, Self::AT_ONCE);
        claim["metadata"]["namespace"] = json!(namespace.name);
        self.cluster.kubectl.apply(&claim).await?;
        let volume = self.bound(namespace, name).await?;
        volume.fill(&fs::read(guest(content)?)?)?;
        Ok(volume)
    }
}

/// A claim for 1 MiB of raw block of a class.
#[must_use]
pub fn block_claim(name: &str, class: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": class,
            "volumeMode": "Block",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
        },
    })
}

/// The phase of a claim.
#[must_use]
pub fn phase(claim: &PersistentVolumeClaim) -> &str {
    let status = claim.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// A volume of the driver.
#[derive(Clone, Debug)]
pub struct CsiVolume {
    /// Its name to the driver.
    pub handle: String,
    file: PathBuf,
}

impl CsiVolume {
    /// The file that it is.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What is on it.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn read(&self) -> anyhow::Result<Vec<u8>> {
        fs::read(&self.file).with_context(|| self.file.display().to_string())
    }

    /// Lets it begin with something.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn fill(&self, content: &[u8]) -> anyhow::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let file = fs::File::options().write(true).open(&self.file)?;
        file.write_all_at(content, 0)?;
        Ok(())
    }

    /// The loop devices on it.
    ///
    /// # Errors
    /// When losetup cannot tell.
    pub async fn devices(&self) -> anyhow::Result<Vec<String>> {
        if !self.file.exists() {
            return Ok(Vec::new());
        }
        let list = ["--noheadings", "--output", "NAME", "--associated"];
        let list = Command::new("losetup").args(list).arg(&self.file).output();
        let list = String::from_utf8_lossy(&list.await?.stdout).into_owned();
        Ok(list.lines().map(|line| line.trim().to_owned()).collect())
    }

    /// Waits until no device is on it.
    ///
    /// # Errors
    /// When one stays.
    pub async fn is_free(&self) -> anyhow::Result<()> {
        until("the volume's devices are freed", async || {
            Ok(self.devices().await?.is_empty().then_some(()))
        })
        .await
    }

    /// Waits until it is deleted.
    ///
    /// # Errors
    /// When it stays.
    pub async fn is_gone(&self) -> anyhow::Result<()> {
        until("the volume is deleted", async || {
            Ok((!self.file.exists()).then_some(()))
        })
        .await
    }

    /// Waits until the guest `logbook` has written this many more records.
    ///
    /// # Errors
    /// When it does not.
    pub async fn advances(&self, records: u32) -> anyhow::Result<Logbook> {
        let goal = Logbook::glance(&self.read()?)?.newest + records;
        until(&format!("record {goal} is written"), async || {
            let logbook = Logbook::glance(&self.read()?)?;
            Ok(Some(logbook).filter(|logbook| logbook.newest >= goal))
        })
        .await
    }
}
