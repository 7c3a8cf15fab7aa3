//! The node, played: what scheduler and kubelet write on a pod.

use coracle_api::report::{TerminationMessage, TerminationReason};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// A node that runs pods by saying so.
pub(crate) struct Node(pub(crate) Api<Pod>);

const THEN: &str = "2026-01-01T10:00:00Z";
const LATER: &str = "2026-01-01T10:00:05Z";

impl Node {
    /// Takes a pod, as the scheduler has it.
    pub(crate) async fn bind(&self, pod: &str) {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "node1"}
        });
        let bound: Result<Value, _> = self
            .0
            .create_subresource("binding", pod, &PostParams::default(), &binding)
            .await;
        bound.expect("the pod is bound");
    }

    /// Runs a pod, step by step as a kubelet reports it.
    pub(crate) async fn run(&self, pod: &str) {
        self.bind(pod).await;
        let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
        self.write(pod, "Pending", &waiting, false).await;
        self.stand_still(pod).await;
        self.go_on(pod).await;
    }

    /// Says that the guest of a running container does not run.
    pub(crate) async fn stand_still(&self, pod: &str) {
        let running = json!({"running": {"startedAt": THEN}});
        self.write(pod, "Running", &running, false).await;
    }

    /// Says that it runs again.
    pub(crate) async fn go_on(&self, pod: &str) {
        let running = json!({"running": {"startedAt": THEN}});
        self.write(pod, "Running", &running, true).await;
    }

    /// Ends a pod's container.
    pub(crate) async fn end(&self, pod: &str, reason: TerminationReason, message: &str) {
        let code = reason.exit_code();
        let said = TerminationMessage {
            reason,
            message: message.into(),
            disk: None,
        };
        let terminated = json!({"terminated": {
            "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
            "message": said.to_json(), "startedAt": THEN, "finishedAt": LATER
        }});
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        self.write(pod, phase, &terminated, false).await;
    }

    /// Says what only a control plane says of a node that does not answer.
    pub(crate) async fn declare_failed(&self, pod: &str) {
        let status = json!({"status": {"phase": "Failed"}});
        self.patch(pod, &status).await;
    }

    /// Confirms a deletion: the containers have ended, the object goes.
    pub(crate) async fn confirm(&self, pod: &str) {
        let now = DeleteParams::default().grace_period(0);
        self.0.delete(pod, &now).await.expect("the pod goes");
    }

    async fn write(&self, pod: &str, phase: &str, state: &Value, ready: bool) {
        let flag = if ready { "True" } else { "False" };
        let status = json!({"status": {
            "phase": phase,
            "podIP": "10.1.2.3",
            "podIPs": [{"ip": "10.1.2.3"}],
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": THEN},
                {"type": "Ready", "status": flag, "lastTransitionTime": LATER}
            ],
            "containerStatuses": [{
                "name": "vm", "ready": ready, "restartCount": 0, "state": state,
                "image": "coracle.dev/vm:test", "imageID": "sha256:0"
            }]
        }});
        self.patch(pod, &status).await;
    }

    /// Writes the scheduler's verdict.
    pub(crate) async fn unschedulable(&self, pod: &str, why: &str) {
        let status = json!({"status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
             "message": why, "lastTransitionTime": THEN}
        ]}});
        self.patch(pod, &status).await;
    }

    async fn patch(&self, pod: &str, status: &Value) {
        let patched = self
            .0
            .patch_status(pod, &PatchParams::default(), &Patch::Merge(status))
            .await;
        patched.expect("the pod's status is written");
    }
}
