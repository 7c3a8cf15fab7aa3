//! A VM that is well: created, run, halted, restarted, paused, changed.

use coracle_api::names::{ANNOTATION_DESIRED, ANNOTATION_RESTART, LABEL_VM};
use coracle_api::report::TerminationReason;
use coracle_api::vm::{ConditionType, Phase, VirtualMachineStatus};
use coracle_controller::cluster::status::condition;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::json;

use crate::fixture::{Fixture, until};
use crate::node::Node;

#[tokio::test]
async fn from_object_to_running_vm_it_takes_three_writes() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    f.create_vm("web", &json!({})).await;
    let pod = f.until_pod("web-1").await;
    let labels = pod.metadata.labels.clone().expect("labels");
    assert_eq!(labels.get(LABEL_VM).map(String::as_str), Some("web"));
    // The API server has not turned anything of the pod down or around.
    let rules = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.containers[0].restart_policy_rules.clone());
    assert!(rules.is_some(), "a current server restarts by exit code");

    f.until_phase("web", Phase::Scheduling).await;
    Node(f.pods()).run("web-1").await;
    let status = f.until_phase("web", Phase::Running).await;
    assert_eq!(status.incarnation, Some(1));
    assert_eq!(status.pod_name.as_deref(), Some("web-1"));
    assert_eq!(status.node_name.as_deref(), Some("node1"));
    assert_eq!(status.pod_ip.as_deref(), Some("10.1.2.3"));
    assert_eq!(status.observed_generation, Some(1));
    assert!(status.started_at.is_some());
    let phases: Vec<Phase> = status.phase_transitions.iter().map(|t| t.phase).collect();
    assert!(
        phases.contains(&Phase::Starting),
        "{phases:?}: a phase without a write of its own"
    );
    for (type_, holds) in [
        (ConditionType::Ready, "True"),
        (ConditionType::DisksReady, "True"),
        (ConditionType::Scheduled, "True"),
        (ConditionType::RestartRequired, "False"),
    ] {
        assert_eq!(
            condition(&status, type_).map(|c| c.status.as_str()),
            Some(holds),
            "{type_:?}"
        );
    }

    // One write more, to know where the count ends.
    f.patch_vm("web", json!({"spec": {"runPolicy": "Halted"}}))
        .await;
    f.until_deleting("web-1").await;
    let writes = f.server.writes_before("delete pods", &f.namespace).await;
    assert_eq!(writes.len(), 3, "{writes:?}");
    assert_eq!(writes[0], "create pods");
}

#[tokio::test]
async fn a_halted_vm_has_no_pod_until_it_is_started() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let node = Node(f.pods());
    f.create_vm("web", &json!({"runPolicy": "Halted"})).await;
    f.until_phase("web", Phase::Stopped).await;
    assert!(f.pod_names().await.is_empty());

    f.patch_vm("web", json!({"spec": {"runPolicy": "Always"}}))
        .await;
    f.until_pod("web-1").await;
    node.run("web-1").await;
    f.until_phase("web", Phase::Running).await;

    f.patch_vm("web", json!({"spec": {"runPolicy": "Halted"}}))
        .await;
    let pod = f.until_deleting("web-1").await;
    assert_eq!(
        pod.metadata.deletion_grace_period_seconds,
        Some(60),
        "the guest gets its time"
    );
    f.until_phase("web", Phase::Stopping).await;
    node.confirm("web-1").await;
    let status = f.until_phase("web", Phase::Stopped).await;
    assert_eq!((status.incarnation, status.pod_name), (Some(1), None));

    f.patch_vm("web", json!({"spec": {"runPolicy": "Always"}}))
        .await;
    f.until_pod("web-2").await;
}

#[tokio::test]
async fn a_new_restart_annotation_restarts_once() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let node = Node(f.pods());
    f.create_vm("web", &json!({})).await;
    f.until_pod("web-1").await;
    node.run("web-1").await;
    f.until_phase("web", Phase::Running).await;

    let annotation = json!({"metadata": {"annotations": {ANNOTATION_RESTART: "1767261600"}}});
    f.patch_vm("web", annotation.clone()).await;
    f.until_deleting("web-1").await;
    assert_eq!(
        f.pod_names().await,
        ["web-1"],
        "no second pod beside the first"
    );
    node.end(
        "web-1",
        TerminationReason::Stopped,
        "the guest powered off when asked",
    )
    .await;
    node.confirm("web-1").await;
    f.until_pod("web-2").await;
    node.run("web-2").await;
    let status = f.until_phase("web", Phase::Running).await;
    assert_eq!(status.served_restart.as_deref(), Some("1767261600"));
    assert_eq!(status.incarnation, Some(2));

    // The same value again asks for nothing: a change that does is served
    // first, so that the pod would be seen going.
    f.patch_vm("web", annotation).await;
    f.patch_vm(
        "web",
        json!({"metadata": {"annotations": {ANNOTATION_DESIRED: "Paused"}}}),
    )
    .await;
    let pod = until(&f.pods(), "web-2", "pause", |pod: &Pod| {
        desired(pod) == Some("Paused")
    })
    .await;
    assert!(pod.metadata.deletion_timestamp.is_none());
}

fn desired(pod: &Pod) -> Option<&str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(ANNOTATION_DESIRED).map(String::as_str)
}

#[tokio::test]
async fn the_wanted_state_reaches_the_pod_and_the_phase() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let node = Node(f.pods());
    f.create_vm("web", &json!({})).await;
    f.until_pod("web-1").await;
    node.run("web-1").await;
    f.until_phase("web", Phase::Running).await;
    f.patch_vm(
        "web",
        json!({"metadata": {"annotations": {ANNOTATION_DESIRED: "Paused"}}}),
    )
    .await;
    until(&f.pods(), "web-1", "pause", |pod: &Pod| {
        desired(pod) == Some("Paused")
    })
    .await;
    node.stand_still("web-1").await;
    f.until_phase("web", Phase::Paused).await;
    f.patch_vm(
        "web",
        json!({"metadata": {"annotations": {ANNOTATION_DESIRED: null}}}),
    )
    .await;
    until(&f.pods(), "web-1", "resume", |pod: &Pod| {
        desired(pod) == Some("Running")
    })
    .await;
    // The guest knows nothing of it yet.
    let told = |status: &VirtualMachineStatus| {
        let ready = condition(status, ConditionType::Ready);
        ready.is_some_and(|ready| ready.message.contains("goes on once its node"))
    };
    let status = f.until("web", "that it is to go on", told).await;
    assert_eq!(status.phase, Some(Phase::Paused));
    node.go_on("web-1").await;
    f.until_phase("web", Phase::Running).await;
}

#[tokio::test]
async fn a_changed_spec_asks_for_a_restart_by_name_of_the_fields() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    f.create_vm("web", &json!({})).await;
    f.until_pod("web-1").await;
    Node(f.pods()).run("web-1").await;
    f.until_phase("web", Phase::Running).await;
    let change = json!({"spec": {"memory": "128Mi", "runPolicy": "OnFailure", "disks": [
        {"name": "root", "ephemeral": {"size": "64Mi"}, "cache": "Writeback"}
    ]}});
    f.patch_vm("web", change).await;
    let message = f
        .until_reason("web", ConditionType::RestartRequired, "SpecChanged")
        .await;
    for field in ["spec.memory", "spec.disks[root].cache", "spec.runPolicy"] {
        assert!(message.contains(field), "{message}");
    }
    // Taken back, nothing is asked for.
    let back = json!({"spec": {"memory": "64Mi", "runPolicy": "Always", "disks": [
        {"name": "root", "ephemeral": {"size": "64Mi"}}
    ]}});
    f.patch_vm("web", back).await;
    f.until_reason("web", ConditionType::RestartRequired, "AsExpected")
        .await;
}

#[tokio::test]
async fn a_deleted_pod_is_followed_by_the_next_once_it_is_gone() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let node = Node(f.pods());
    f.create_vm("web", &json!({})).await;
    let pod = f.until_pod("web-1").await;
    node.run("web-1").await;
    f.until_phase("web", Phase::Running).await;
    let deleted = f.pods().delete("web-1", &DeleteParams::default()).await;
    deleted.expect("somebody deletes the pod");
    f.until_phase("web", Phase::Stopping).await;
    // A node that does not answer leaves this to the control plane: it proves
    // nothing, and nothing is started.
    node.declare_failed("web-1").await;
    f.until_reason("web", ConditionType::Ready, "Stopping")
        .await;
    assert_eq!(f.pod_names().await, ["web-1"]);
    node.confirm("web-1").await;
    f.until_gone(&pod).await;
    f.until_pod("web-2").await;
    assert_eq!(
        f.until_phase("web", Phase::Scheduling).await.incarnation,
        Some(2)
    );
}
