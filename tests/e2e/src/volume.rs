//! A static local volume on a loop device, as an administrator would make one:
//! `volumeMode: Block`, the device as udev leaves it (root:disk 0660).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use coracle_api::names::DISK_GID;
use coracle_tests::{Logbook, LoopDisk, guest};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::PostParams;
use kube::{Api, Client};
use nix::unistd::{Gid, chown};
use serde_json::json;

use crate::namespace::Namespace;
use crate::node::Node;
use crate::wait::{until, wait_for};

const SIZE: u64 = 1 << 20;

/// Where a volume can be used.
#[derive(Clone, Copy)]
pub enum Reach<'a> {
    /// On one node.
    One(&'a Node),
    /// On two nodes, and on both at once: nothing but the controller keeps two
    /// guests apart.
    Both(&'a Node, &'a Node),
}

impl<'a> Reach<'a> {
    fn mode(self) -> &'static str {
        match self {
            Self::One(_) => "ReadWriteOnce",
            Self::Both(..) => "ReadWriteMany",
        }
    }

    fn nodes(self) -> Vec<&'a Node> {
        match self {
            Self::One(node) => vec![node],
            Self::Both(one, other) => vec![one, other],
        }
    }
}

/// Gives a device node the owner and mode that udev gives to disks; there may
/// be no udev here.
///
/// # Errors
/// When the node does not take them.
pub fn as_udev_leaves_it(device: &Path) -> anyhow::Result<()> {
    let gid = u32::try_from(DISK_GID).map(Gid::from_raw)?;
    chown(device, None, Some(gid)).context("chown")?;
    fs::set_permissions(device, fs::Permissions::from_mode(0o660))?;
    Ok(())
}

/// A loop device, the volume on it, and the claim that it is bound to.
pub struct BlockVolume {
    /// The device and what is on it.
    pub disk: LoopDisk,
    /// The volume's name.
    pub name: String,
    mode: &'static str,
    claim: String,
    client: Client,
    namespace: String,
}

impl BlockVolume {
    /// A volume with a guest's disk on it, for the claim `claim`, which is
    /// not made yet.
    ///
    /// # Errors
    /// When the device or the volume cannot be made.
    pub async fn without_claim(
        node: &Node,
        namespace: &Namespace,
        claim: &str,
        content: &str,
    ) -> anyhow::Result<Self> {
        let content = fs::read(guest(content)?)?;
        Self::make(Reach::One(node), namespace, claim, &content).await
    }

    /// A volume without anything on it, and a claim bound to it.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub async fn empty(node: &Node, namespace: &Namespace, claim: &str) -> anyhow::Result<Self> {
        let volume = Self::make(Reach::One(node), namespace, claim, &[]).await?;
        volume.claim().await?;
        Ok(volume)
    }

    async fn make(
        reach: Reach<'_>,
        namespace: &Namespace,
        claim: &str,
        content: &[u8],
    ) -> anyhow::Result<Self> {
        let nodes = reach.nodes();
        let node = nodes[0];
        let names: Vec<&str> = nodes.iter().map(|node| node.name()).collect();
        let name = format!("{}-{claim}", namespace.name);
        let disk = LoopDisk::new(node.dir(), &name, content, SIZE)?;
        as_udev_leaves_it(disk.path())?;

        let volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Mi"},
                "volumeMode": "Block",
                "accessModes": [reach.mode()],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "claimRef": {"namespace": namespace.name, "name": claim},
                "local": {"path": disk.path()},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": names},
                ]}]}},
            },
        }))?;
        let client = node.api().into_client();
        let volumes: Api<PersistentVolume> = Api::all(client.clone());
        volumes.create(&PostParams::default(), &volume).await?;
        Ok(Self {
            disk,
            name,
            mode: reach.mode(),
            claim: claim.to_owned(),
            client,
            namespace: namespace.name.clone(),
        })
    }

    /// A volume with a guest's disk on it, and a claim bound to it.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub async fn new(
        node: &Node,
        namespace: &Namespace,
        claim: &str,
        content: &str,
    ) -> anyhow::Result<Self> {
        let volume = Self::without_claim(node, namespace, claim, content).await?;
        volume.claim().await?;
        Ok(volume)
    }

    /// The same, on a volume of that reach.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub async fn reaching(
        reach: Reach<'_>,
        namespace: &Namespace,
        claim: &str,
        content: &str,
    ) -> anyhow::Result<Self> {
        let content = fs::read(guest(content)?)?;
        let volume = Self::make(reach, namespace, claim, &content).await?;
        volume.claim().await?;
        Ok(volume)
    }

    /// How far the guest `logbook` is on it, that may write meanwhile.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn glance(&self) -> anyhow::Result<Logbook> {
        Ok(Logbook::glance(&self.disk.read()?)?)
    }

    /// Waits until this many more records are in the logbook, and returns it.
    ///
    /// # Errors
    /// When nobody writes them.
    pub async fn advances(&self, records: u32) -> anyhow::Result<Logbook> {
        let goal = self.glance()?.newest + records;
        until(&format!("record {goal} is written"), async || {
            Ok(Some(self.glance()?).filter(|logbook| logbook.newest >= goal))
        })
        .await
    }

    /// Makes the claim, and returns it when it is bound.
    ///
    /// # Errors
    /// When it is not.
    pub async fn claim(&self) -> anyhow::Result<PersistentVolumeClaim> {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": self.claim},
            "spec": {
                "storageClassName": "",
                "volumeName": self.name,
                "volumeMode": "Block",
                "accessModes": [self.mode],
                "resources": {"requests": {"storage": "1Mi"}},
            },
        }))?;
        let claims = Api::namespaced(self.client.clone(), &self.namespace);
        claims.create(&PostParams::default(), &claim).await?;
        let bound = wait_for(
            &claims,
            &self.claim,
            "bound",
            |claim: Option<&PersistentVolumeClaim>| {
                let status = claim.and_then(|claim| claim.status.as_ref());
                status.and_then(|status| status.phase.as_deref()) == Some("Bound")
            },
        );
        bound.await?.context("a bound claim is there")
    }
}

impl Drop for BlockVolume {
    fn drop(&mut self) {
        let _ = std::process::Command::new("kubectl")
            .args(["delete", "persistentvolume", &self.name, "--wait=false"])
            .stdout(std::process::Stdio::null())
            .status();
    }
}
