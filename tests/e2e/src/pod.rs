//! Pods: a plain one that Pod Security `restricted` admits, and what a test
//! reads of any.

use anyhow::ensure;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use serde_json::{Value, json};

/// A pod of one container `main` that Pod Security `restricted` admits, as uid
/// 1000.
///
/// # Panics
/// Never: what it is made from is a pod.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "it is called with json!(…)")]
pub fn plain_pod(name: &str, image: &str, command: &[&str], limits: Value) -> Pod {
    let pod = json!({
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "main",
                "image": image,
                "command": command,
                "resources": {"limits": limits},
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    });
    serde_json::from_value(pod).expect("it is a pod")
}

/// What a test reads of a pod with one container.
pub trait PodFacts {
    /// The phase.
    fn phase(&self) -> &str;
    /// The status of its container.
    fn container(&self) -> Option<&ContainerStatus>;

    /// Why the kubelet, not a container, ended it.
    fn reason(&self) -> Option<&str>;
    /// Its address.
    fn ip(&self) -> Option<&str>;

    /// Whether its container runs.
    fn runs(&self) -> bool {
        let state = self.container().and_then(|status| status.state.as_ref());
        matches!(
            state,
            Some(ContainerState {
                running: Some(_),
                ..
            })
        )
    }

    /// The container's exit code, once it has ended for good.
    fn exit_code(&self) -> Option<i32> {
        let state = self.container()?.state.as_ref()?;
        Some(state.terminated.as_ref()?.exit_code)
    }

    /// How often the container was started again.
    fn restarts(&self) -> i32 {
        self.container().map_or(0, |status| status.restart_count)
    }
}

impl PodFacts for Pod {
    fn phase(&self) -> &str {
        let status = self.status.as_ref();
        status
            .and_then(|status| status.phase.as_deref())
            .unwrap_or_default()
    }

    fn reason(&self) -> Option<&str> {
        self.status.as_ref()?.reason.as_deref()
    }

    fn ip(&self) -> Option<&str> {
        self.status.as_ref()?.pod_ip.as_deref()
    }

    fn container(&self) -> Option<&ContainerStatus> {
        self.status.as_ref()?.container_statuses.as_ref()?.first()
    }
}

/// Whether a pod is the one that it was, and its container never ended.
///
/// # Errors
/// When it is another, or its container is; with what is now.
pub fn goes_on(before: &Pod, now: &Pod) -> anyhow::Result<()> {
    ensure!(now.metadata.uid == before.metadata.uid, "another pod");
    ensure!(now.runs(), "it does not run: {:#?}", now.status);
    ensure!(now.restarts() == 0, "restarted: {:#?}", now.status);
    let container = |pod: &Pod| pod.container()?.container_id.clone();
    ensure!(container(now) == container(before), "another container");
    Ok(())
}
