//! Claims: missing, late, unbound, somebody else's.

use coracle_api::vm::{ConditionType, Phase};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::fixture::{Fixture, object_of};
use crate::node::Node;

fn on_claim(claim: &str) -> Value {
    json!({"disks": [{"name": "root", "claim": {"name": claim}}]})
}

#[tokio::test]
async fn a_vm_waits_for_its_claim_and_starts_when_it_comes() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    f.create_vm("web", &on_claim("web-root")).await;
    let message = f
        .until_reason("web", ConditionType::DisksReady, "ClaimNotFound")
        .await;
    assert!(message.contains("\"web-root\""), "{message}");
    f.until_phase("web", Phase::Pending).await;
    assert!(f.pod_names().await.is_empty());
    // Not bound: with WaitForFirstConsumer the pod is what binds it.
    f.create_claim("web-root", "Pending").await;
    f.until_pod("web-1").await;
    let message = f
        .until_reason("web", ConditionType::DisksReady, "StorageClassNotFound")
        .await;
    assert!(
        message.contains("tests"),
        "its storage class is named: {message}"
    );
    f.bind_claim("web-root", "Bound").await;
    Node(f.pods()).run("web-1").await;
    f.until_phase("web", Phase::Running).await;
    f.until_reason("web", ConditionType::DisksReady, "AsExpected")
        .await;
}

#[tokio::test]
async fn of_two_vms_that_want_one_claim_one_waits_for_the_others_end() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    f.create_claim("shared", "Bound").await;
    let (one, two) = (on_claim("shared"), on_claim("shared"));
    tokio::join!(f.create_vm("one", &one), f.create_vm("two", &two));
    // Either may win; the loser names the winner.
    let pods = f.pods();
    let first = tokio::select! {
        _ = f.until_pod("one-1") => "one-1",
        _ = f.until_pod("two-1") => "two-1",
    };
    let (winner, loser) = if first == "one-1" {
        ("one", "two")
    } else {
        ("two", "one")
    };
    let message = f
        .until_reason(loser, ConditionType::DisksReady, "ClaimInUse")
        .await;
    assert!(message.contains(&format!("{winner:?}")), "{message}");
    Node(pods).run(first).await;
    f.until_phase(winner, Phase::Running).await;
    f.patch_vm(winner, json!({"spec": {"runPolicy": "Halted"}}))
        .await;
    f.until_deleting(first).await;
    assert_eq!(f.pod_names().await, [first]);
    Node(f.pods()).confirm(first).await;
    f.until_pod(&format!("{loser}-1")).await;
}

#[tokio::test]
async fn a_plain_pod_that_has_the_claim_is_waited_for() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    f.create_claim("data", "Bound").await;
    let pod: Pod = object_of(json!({
        "metadata": {"name": "importer"},
        "spec": {
            "containers": [{"name": "c", "image": "example",
                            "volumeDevices": [{"name": "d", "devicePath": "/dev/d"}]}],
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
        }
    }));
    f.pods()
        .create(&PostParams::default(), &pod)
        .await
        .expect("a pod");
    f.create_vm("web", &on_claim("data")).await;
    let message = f
        .until_reason("web", ConditionType::DisksReady, "ClaimInUse")
        .await;
    assert!(message.contains("\"importer\""), "{message}");
    Node(f.pods()).confirm("importer").await;
    f.until_pod("web-1").await;
}
