//! The guest: a kernel in a claim, and a VM that boots it.

use std::path::Path;

use anyhow::Context as _;
use coracle_e2e::{Namespace, Node, until, vm_object};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

/// The claim with the kernel.
pub(crate) const CLAIM: &str = "kernel";

/// A volume with the guest's kernel, and a claim bound to it.
pub(crate) async fn make_claim(
    node: &Node,
    namespace: &Namespace,
    guest: &Path,
) -> anyhow::Result<()> {
    let dir = node.dir().join("kernel");
    std::fs::create_dir_all(&dir)?;
    for file in ["vmlinuz", "initrd"] {
        let from = guest.join(file);
        std::fs::copy(&from, dir.join(file)).with_context(|| from.display().to_string())?;
    }
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": namespace.name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"namespace": namespace.name, "name": CLAIM},
            "local": {"path": dir},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name()]},
            ]}]}},
        },
    }))?;
    let volumes: Api<PersistentVolume> = Api::all(node.api().into_client());
    volumes.create(&PostParams::default(), &volume).await?;
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": CLAIM},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeName": namespace.name,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }))?;
    namespace
        .claims()
        .create(&PostParams::default(), &claim)
        .await?;
    until("the claim is bound", async || {
        let claim = namespace.claims().get(CLAIM).await?;
        let phase = claim.status.and_then(|status| status.phase);
        Ok((phase.as_deref() == Some("Bound")).then_some(()))
    })
    .await
}

/// A VM that boots the guest.
pub(crate) fn vm(name: &str, cmdline: &str) -> Value {
    let fields = json!({
        "memory": "256Mi",
        "runPolicy": "Once",
        "terminationGracePeriodSeconds": 10,
        "disks": [],
        "firmware": {"kernel": {
            "claim": {"name": CLAIM},
            "path": "vmlinuz", "initrd": "initrd", "cmdline": cmdline,
        }},
    });
    vm_object(name, fields)
}
