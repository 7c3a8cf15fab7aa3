//! What stands behind the claims, for an explanation of each: volume, class,
//! driver, nodes, snapshot classes, and the pods that use it. Where the user
//! may not read one of these, there is no explanation: it would be a guess.

use std::fmt::Debug;
use std::sync::Arc;

use coracle_api::names::LABEL_VM;
use coracle_block::claim::{
    ClassFacts, ClassKnown, DriverFacts, Explanation, Holder, NodeFacts, StorageFacts, Subject,
    VolumeFacts, explain, storage_class,
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, StorageClass};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::{ClusterResourceScope, GroupVersionKind};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::kubectl::connect::Cluster;
use crate::kubectl::error::{Doing, PluginError};

/// Explains a claim of the cluster's namespace.
pub(super) async fn explanation(
    cluster: &Cluster,
    claim: &PersistentVolumeClaim,
) -> Result<Explanation, PluginError> {
    let storage = behind(cluster, claim).await?;
    let nodes = nodes(cluster).await?;
    let driver = storage.driver.as_deref().map(|driver| driver.name.as_str());
    let snapshot_classes = snapshot_classes(cluster, driver).await?;
    let holders = holders(cluster, claim).await?;
    Ok(explain(&Subject {
        claim,
        storage: &storage,
        nodes: &nodes,
        snapshot_classes: snapshot_classes.as_deref(),
        holders: &holders,
    }))
}

/// An object of no namespace, if it is there.
async fn get<K>(
    cluster: &Cluster,
    resource: &'static str,
    name: &str,
) -> Result<Option<K>, PluginError>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(cluster.client.clone());
    let doing = Doing::new("get", resource).on(name);
    api.get_opt(name).await.map_err(|error| doing.failed(error))
}

async fn behind(
    cluster: &Cluster,
    claim: &PersistentVolumeClaim,
) -> Result<StorageFacts, PluginError> {
    let spec = claim.spec.as_ref();
    let volume = match spec.and_then(|spec| spec.volume_name.as_deref()) {
        Some(name) => get::<PersistentVolume>(cluster, "persistentvolumes", name).await?,
        None => None,
    };
    let volume = volume.as_ref().map(VolumeFacts::of);
    let class = match storage_class(claim).filter(|class| !class.is_empty()) {
        None => ClassKnown::Unasked,
        Some(name) => match get::<StorageClass>(cluster, "storageclasses", name).await? {
            None => ClassKnown::Missing,
            Some(class) => ClassKnown::Known(Arc::new(ClassFacts::of(&class))),
        },
    };
    let driver = match (&volume, &class) {
        (Some(volume), _) => volume.driver.as_deref(),
        (None, ClassKnown::Known(class)) => Some(class.provisioner.as_str()),
        (None, ClassKnown::Missing | ClassKnown::Unasked) => None,
    };
    let driver = match driver {
        Some(name) => get::<CSIDriver>(cluster, "csidrivers", name).await?,
        None => None,
    };
    Ok(StorageFacts {
        driver: driver.map(|driver| Arc::new(DriverFacts::of(&driver))),
        volume: volume.map(Arc::new),
        class,
    })
}

async fn nodes(cluster: &Cluster) -> Result<Vec<NodeFacts>, PluginError> {
    let api: Api<CSINode> = Api::all(cluster.client.clone());
    let doing = Doing::new("list", "csinodes");
    let found = api.list(&ListParams::default()).await;
    let found = found.map_err(|error| doing.failed(error))?;
    Ok(found.items.iter().flat_map(NodeFacts::of).collect())
}

/// Those of a driver; `None` where the cluster has no snapshots.
async fn snapshot_classes(
    cluster: &Cluster,
    driver: Option<&str>,
) -> Result<Option<Vec<String>>, PluginError> {
    let kind = GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshotClass");
    let resource = ApiResource::from_gvk_with_plural(&kind, "volumesnapshotclasses");
    let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
    let classes = match api.list(&ListParams::default()).await {
        Ok(classes) => classes.items,
        // A kind that is not there has no reason in its answer.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
        Err(error) => return Err(Doing::new("list", "volumesnapshotclasses").failed(error)),
    };
    let of_driver = classes
        .into_iter()
        .filter(|class| driver.is_some_and(|driver| class.data["driver"] == driver));
    Ok(Some(
        of_driver.filter_map(|class| class.metadata.name).collect(),
    ))
}

/// The pods that use a claim and have not ended.
async fn holders(
    cluster: &Cluster,
    claim: &PersistentVolumeClaim,
) -> Result<Vec<Holder>, PluginError> {
    let doing = Doing::new("list", "pods").within(&cluster.namespace);
    let found = cluster.pods().list(&ListParams::default()).await;
    let found = found.map_err(|error| doing.failed(error))?;
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    Ok(found
        .items
        .iter()
        .filter_map(|pod| holder(pod, name))
        .collect())
}

fn holder(pod: &Pod, claim: &str) -> Option<Holder> {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let mut volumes = pod.spec.as_ref()?.volumes.iter().flatten();
    let read_only = volumes.find_map(|volume| {
        let source = volume.persistent_volume_claim.as_ref()?;
        (source.claim_name == claim).then_some(source.read_only.unwrap_or(false))
    })?;
    let labels = pod.metadata.labels.as_ref();
    Some(Holder {
        pod: pod.metadata.name.clone()?,
        vm: labels.and_then(|labels| labels.get(LABEL_VM).cloned()),
        read_only,
        // An explanation does not ask.
        shareable: false,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::holder;

    #[test]
    fn a_pod_holds_the_claims_it_names_until_it_ends() {
        let pod = |phase: &str| {
            serde_json::from_value(json!({
                "metadata": {"name": "web-3", "labels": {"coracle.dev/vm": "web"}},
                "spec": {"containers": [], "volumes": [
                    {"name": "disk-root", "persistentVolumeClaim": {"claimName": "web-root"}},
                ]},
                "status": {"phase": phase},
            }))
            .expect("a pod")
        };
        let held = holder(&pod("Running"), "web-root").map(|holder| holder.vm);
        assert_eq!(held, Some(Some("web".to_owned())));
        assert_eq!(holder(&pod("Running"), "db-root"), None);
        assert_eq!(holder(&pod("Succeeded"), "web-root"), None);
    }
}
