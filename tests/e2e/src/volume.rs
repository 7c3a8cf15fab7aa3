//! A static local volume on a loop device, as an administrator would make one:
//! `volumeMode: Block`, the device as udev leaves it (root:disk 0660).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::Context;
use coracle_api::names::DISK_GID;
use coracle_tests::{LoopDisk, guest};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::PostParams;
use kube::{Api, Client};
use nix::unistd::{Gid, chown};
use serde_json::json;

use crate::namespace::Namespace;
use crate::node::Node;
use crate::wait::wait_for;

const SIZE: u64 = 1 << 20;

/// A loop device, the volume on it, and the claim that it is bound to.
pub struct BlockVolume {
    /// The device and what is on it.
    pub disk: LoopDisk,
    /// The volume's name.
    pub name: String,
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
        let name = format!("{}-{claim}", namespace.name);
        let disk = LoopDisk::new(node.dir(), &name, &content, SIZE)?;
        // What udev does; there may be none here.
        let gid = u32::try_from(DISK_GID).map(Gid::from_raw)?;
        chown(disk.path(), None, Some(gid)).context("chown")?;
        fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o660))?;

        let volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Mi"},
                "volumeMode": "Block",
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "claimRef": {"namespace": namespace.name, "name": claim},
                "local": {"path": disk.path()},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name()]},
                ]}]}},
            },
        }))?;
        let client = node.api().into_client();
        let volumes: Api<PersistentVolume> = Api::all(client.clone());
        volumes.create(&PostParams::default(), &volume).await?;
        Ok(Self {
            disk,
            name,
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
                "accessModes": ["ReadWriteOnce"],
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
