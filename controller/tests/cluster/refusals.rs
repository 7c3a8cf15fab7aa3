//! Pods that the cluster will not have.

use coracle_api::vm::{ConditionType, Phase};
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::fixture::{Fixture, object_of};
use crate::node::Node;

#[tokio::test]
async fn a_foreign_pod_with_the_name_is_not_adopted() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let pod: Pod = object_of(json!({
        "metadata": {"name": "web-1", "labels": {"coracle.dev/vm": "web"}},
        "spec": {"containers": [{"name": "vm", "image": "example"}]}
    }));
    let foreign = f
        .pods()
        .create(&PostParams::default(), &pod)
        .await
        .expect("a pod");
    f.create_vm("web", &json!({})).await;
    let message = f
        .until_reason("web", ConditionType::Scheduled, "PodNameTaken")
        .await;
    assert!(
        message.contains("\"web-1\"") && message.contains("delete it"),
        "{message}"
    );
    f.until_phase("web", Phase::Pending).await;
    let there = f.pods().get("web-1").await.expect("it is left alone");
    assert_eq!(there.metadata.uid, foreign.metadata.uid);
    assert!(there.metadata.deletion_timestamp.is_none());
}

#[tokio::test]
async fn quota_and_pod_security_say_what_to_change() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let quotas: Api<ResourceQuota> = Api::namespaced(f.client.clone(), &f.namespace);
    let quota = object_of(json!({
        "metadata": {"name": "small"},
        "spec": {"hard": {"requests.memory": "1Mi"}},
    }));
    quotas
        .create(&PostParams::default(), &quota)
        .await
        .expect("a quota");
    // The controller-manager would count what is used.
    let status = json!({"status": {"hard": {"requests.memory": "1Mi"},
                                   "used": {"requests.memory": "0"}}});
    let counted = quotas
        .patch_status("small", &PatchParams::default(), &Patch::Merge(&status))
        .await;
    counted.expect("the quota is counted");
    f.create_vm("web", &json!({})).await;
    let message = f
        .until_reason("web", ConditionType::Scheduled, "QuotaExceeded")
        .await;
    assert!(message.contains("ResourceQuota"), "{message}");
    quotas
        .delete("small", &DeleteParams::default())
        .await
        .expect("it goes");
    // Any change of the VM looks again at once.
    f.patch_vm("web", json!({"metadata": {"labels": {"again": "yes"}}}))
        .await;
    f.until_pod("web-1").await;
}

#[tokio::test]
async fn the_pod_passes_the_level_restricted() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let namespaces: Api<Namespace> = Api::all(f.client.clone());
    let label =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let labelled = namespaces
        .patch(&f.namespace, &PatchParams::default(), &Patch::Merge(&label))
        .await;
    labelled.expect("the namespace is labelled");
    let spec = json!({"interfaces": [{"name": "default", "binding": "Slirp"}]});
    f.create_vm("web", &spec).await;
    f.until_pod("web-1").await;
}

#[tokio::test]
async fn a_device_that_no_node_has_is_named() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let devices = json!({"devices": [
        {"name": "gpu", "resource": "example.com/a10"},
        {"name": "nic", "resource": "example.com/vf"},
    ]});
    f.create_vm("web", &devices).await;
    f.until_pod("web-1").await;
    let why = "0/2 nodes are available: 2 Insufficient example.com/a10.";
    Node(f.pods()).unschedulable("web-1", why).await;
    let message = f
        .until_reason("web", ConditionType::Scheduled, "DeviceNotOffered")
        .await;
    assert!(
        message.contains("\"gpu\" (example.com/a10)") && message.contains(why),
        "{message}"
    );
    assert!(!message.contains("nic"), "{message}");
}

#[tokio::test]
async fn a_cluster_without_kvm_is_told_in_plain_words() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    f.create_vm("web", &json!({"accelerator": "Kvm"})).await;
    f.until_pod("web-1").await;
    let why = "0/2 nodes are available: 2 Insufficient coracle.dev/kvm.";
    Node(f.pods()).unschedulable("web-1", why).await;
    let message = f
        .until_reason("web", ConditionType::Scheduled, "KvmUnavailable")
        .await;
    assert!(
        message.contains("device plugin") && message.contains(why),
        "{message}"
    );
}
