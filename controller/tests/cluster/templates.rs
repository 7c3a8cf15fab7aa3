//! Claims made from templates, and what is told of the storage behind them.

use coracle_api::vm::{ConditionType, Phase, WhenDeleted};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::fixture::{Fixture, object_of, until};
use crate::node::Node;

fn template(fields: &Value) -> Value {
    let mut template = json!({"size": "1Gi"});
    let object = template.as_object_mut().expect("an object");
    object.extend(fields.as_object().expect("an object").clone());
    json!({"disks": [{"name": "root", "claimTemplate": template}]})
}

impl Fixture {
    fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn create_class(&self, expandable: bool) -> String {
        let name = format!("{}-{expandable}", self.namespace);
        let classes: Api<StorageClass> = Api::all(self.client.clone());
        let class = object_of(json!({
            "metadata": {"name": name}, "provisioner": "csi.example.com",
            "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": expandable
        }));
        let created = classes.create(&PostParams::default(), &class).await;
        created.expect("the API server takes the class");
        name
    }

    /// Binds a claim to a new volume, as a CSI provisioner does.
    async fn provision(&self, claim: &str, class: &str) {
        let name = format!("{}-{claim}", self.namespace);
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let volume = object_of(json!({
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "volumeMode": "Block", "storageClassName": class,
                "claimRef": {"namespace": self.namespace, "name": claim},
                "csi": {"driver": "csi.example.com", "volumeHandle": name}
            }
        }));
        let created = volumes.create(&PostParams::default(), &volume).await;
        created.expect("the API server takes the volume");
        let bound = json!({"spec": {"volumeName": name}});
        let patched = self
            .claims()
            .patch(claim, &PatchParams::default(), &Patch::Merge(&bound))
            .await;
        patched.expect("the claim is bound");
        self.bind_claim(claim, "Bound").await;
    }
}

#[tokio::test]
async fn a_template_makes_a_claim_which_its_status_describes() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let class = f.create_class(true).await;
    let spec = template(&json!({"storageClassName": class, "whenDeleted": "Delete"}));
    let vm = f.create_vm("web", &spec).await;
    let claim = until(&f.claims(), "web-root", "a claim", |_| true).await;
    let owners = claim.metadata.owner_references.expect("an owner");
    assert_eq!(Some(&owners[0].uid), vm.metadata.uid.as_ref());
    // The pod is the first consumer that the class waits for.
    f.until_pod("web-1").await;
    let message = f
        .until_reason("web", ConditionType::DisksReady, "WaitsForFirstConsumer")
        .await;
    assert!(message.contains(&class), "{message}");
    f.provision("web-root", &class).await;
    Node(f.pods()).run("web-1").await;
    let status = f
        .until("web", "a disk with a driver", |status| {
            status.phase == Some(Phase::Running)
                && status.disks.iter().any(|disk| disk.driver.is_some())
        })
        .await;
    let disk = serde_json::to_value(&status.disks[0]).expect("JSON");
    assert_eq!(
        disk,
        json!({"name": "root", "claim": "web-root", "volumeMode": "Block",
               "accessModes": ["ReadWriteOnce"], "storageClass": class,
               "driver": "csi.example.com", "capacity": "1Gi"})
    );

    // One write more, to know where the count ends.
    f.patch_vm("web", json!({"spec": {"runPolicy": "Halted"}}))
        .await;
    f.until_deleting("web-1").await;
    let writes = f.server.writes_before("delete pods", &f.namespace).await;
    let claims: Vec<_> = writes.iter().filter(|w| w.contains("claims")).collect();
    assert_eq!(claims, ["create persistentvolumeclaims"], "{writes:?}");
}

#[tokio::test]
async fn a_template_grows_its_claim_and_the_api_refuses_to_shrink_it() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let class = f.create_class(true).await;
    f.create_vm("web", &template(&json!({"storageClassName": class})))
        .await;
    until(&f.claims(), "web-root", "a claim", |_| true).await;
    f.provision("web-root", &class).await;
    f.until_pod("web-1").await;
    Node(f.pods()).run("web-1").await;
    f.until_phase("web", Phase::Running).await;
    f.until_reason("web", ConditionType::DisksSized, "AsExpected")
        .await;
    let size = |size: &str| template(&json!({"storageClassName": class, "size": size}));
    f.patch_vm("web", json!({"spec": size("2Gi")})).await;
    let grown = |claim: &PersistentVolumeClaim| {
        let spec = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        let requests = spec.and_then(|resources| resources.requests.as_ref());
        requests.is_some_and(|requests| requests["storage"].0 == "2Gi")
    };
    until(&f.claims(), "web-root", "a larger request", grown).await;
    f.until_reason("web", ConditionType::DisksSized, "Expanding")
        .await;
    let restart = f
        .until_reason("web", ConditionType::RestartRequired, "AsExpected")
        .await;
    assert!(!restart.contains("claimTemplate"), "{restart}");
    let status = json!({"status": {"capacity": {"storage": "2Gi"}}});
    let resized = f
        .claims()
        .patch_status("web-root", &PatchParams::default(), &Patch::Merge(&status))
        .await;
    resized.expect("the claim's status is written");
    f.until_reason("web", ConditionType::DisksSized, "AsExpected")
        .await;

    let patch = |spec: Value| {
        let vms = f.vms();
        async move {
            let patch = json!({"spec": spec});
            let params = PatchParams::default();
            let refused = vms.patch("web", &params, &Patch::Merge(&patch)).await;
            refused.expect_err("it is refused").to_string()
        }
    };
    let refused = patch(size("1536Mi")).await;
    assert!(refused.contains("can grow and never shrink"), "{refused}");
    let refused = patch(template(&json!({"size": "2Gi"}))).await;
    assert!(refused.contains("keeps its class"), "{refused}");
}

#[tokio::test]
async fn a_class_that_forbids_expansion_is_named() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let class = f.create_class(false).await;
    f.create_vm("web", &template(&json!({"storageClassName": class})))
        .await;
    until(&f.claims(), "web-root", "a claim", |_| true).await;
    f.provision("web-root", &class).await;
    let larger = template(&json!({"storageClassName": class, "size": "2Gi"}));
    f.patch_vm("web", json!({"spec": larger})).await;
    let message = f
        .until_reason("web", ConditionType::DisksSized, "ExpansionForbidden")
        .await;
    assert!(message.contains(&class), "{message}");
}

#[tokio::test]
async fn a_claim_of_somebody_else_is_not_adopted() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    f.create_claim("web-root", "Bound").await;
    let there = f.claims().get("web-root").await.expect("it is there");
    f.create_vm(
        "web",
        &template(&json!({"whenDeleted": WhenDeleted::Delete})),
    )
    .await;
    let message = f
        .until_reason("web", ConditionType::DisksReady, "ClaimNotOwned")
        .await;
    assert!(message.contains("kubectl label pvc web-root"), "{message}");
    f.until_phase("web", Phase::Pending).await;
    assert!(f.pod_names().await.is_empty());
    let still = f.claims().get("web-root").await.expect("it is there");
    assert_eq!(still.metadata, there.metadata, "it is left alone");
    // Whoever says so hands it over.
    let labels =
        json!({"metadata": {"labels": {"coracle.dev/vm": "web", "coracle.dev/disk": "root"}}});
    let labelled = f
        .claims()
        .patch("web-root", &PatchParams::default(), &Patch::Merge(&labels))
        .await;
    labelled.expect("it is labelled");
    f.until_pod("web-1").await;
}

#[tokio::test]
async fn a_storage_class_that_is_missing_is_named() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    f.create_vm("web", &template(&json!({"storageClassName": "nowhere"})))
        .await;
    let message = f
        .until_reason("web", ConditionType::DisksReady, "StorageClassNotFound")
        .await;
    assert!(message.contains("\"nowhere\""), "{message}");
}
