//! How VMs end, and what follows.

use coracle_api::report::TerminationReason;
use coracle_api::vm::{ConditionType, Phase};
use kube::api::DeleteParams;
use serde_json::json;

use crate::fixture::Fixture;
use crate::node::Node;

#[tokio::test]
async fn a_wrong_manifest_fails_once_and_is_tried_again_when_it_changes() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let node = Node(f.pods());
    f.create_vm("web", &json!({})).await;
    f.until_pod("web-1").await;
    node.run("web-1").await;
    let why = "cpuModel \"i8086\" is no model that qemu knows";
    node.end("web-1", TerminationReason::InvalidMachine, why)
        .await;
    let message = f
        .until_reason("web", ConditionType::Ready, "InvalidMachine")
        .await;
    assert_eq!(message, why);
    let status = f.until_phase("web", Phase::Failed).await;
    let last = status.last_termination.expect("how it ended");
    assert_eq!((last.exit_code, last.incarnation), (Some(2), Some(1)));
    assert_eq!(f.pod_names().await, ["web-1"], "kept for its logs");

    f.patch_vm("web", json!({"spec": {"cpuModel": "max"}}))
        .await;
    f.until_pod("web-2").await;
    f.until_phase("web", Phase::Scheduling).await;
    assert_eq!(f.pod_names().await, ["web-2"]);
}

#[tokio::test]
async fn a_host_that_lacks_something_is_tried_again_after_a_pause() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let node = Node(f.pods());
    f.create_vm("web", &json!({})).await;
    f.until_pod("web-1").await;
    node.run("web-1").await;
    node.end(
        "web-1",
        TerminationReason::KvmUnavailable,
        "/dev/kvm is not there",
    )
    .await;
    // It ended long ago by its own clock, so the pause is over.
    f.until_pod("web-2").await;
    let status = f
        .until("web", "a failure counted", |status| {
            status.failures == Some(1) && status.incarnation == Some(2)
        })
        .await;
    assert_eq!(
        status.last_termination.map(|last| last.reason).as_deref(),
        Some("KvmUnavailable")
    );
}

#[tokio::test]
async fn a_vm_that_runs_once_stays_stopped_after_its_guest_powered_off() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let node = Node(f.pods());
    f.create_vm("job", &json!({"runPolicy": "Once"})).await;
    let pod = f.until_pod("job-1").await;
    node.run("job-1").await;
    node.end(
        "job-1",
        TerminationReason::GuestShutdown,
        "the guest powered off",
    )
    .await;
    f.until_phase("job", Phase::Stopped).await;
    // Also when its pod is cleared away.
    let deleted = f.pods().delete("job-1", &DeleteParams::default()).await;
    deleted.expect("it goes");
    f.until_gone(&pod).await;
    let status = f
        .until("job", "no node", |status| status.node_name.is_none())
        .await;
    assert_eq!(status.phase, Some(Phase::Stopped));
    assert!(f.pod_names().await.is_empty());
}
