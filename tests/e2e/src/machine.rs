//! A `VirtualMachine` object, and what its controller makes of it.

use anyhow::Context;
use coracle_api::vm::{ConditionType, Phase, VirtualMachine, VirtualMachineStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::namespace::Namespace;
use crate::vm::VmPod;
use crate::wait::wait_for;

/// A VM in the API.
pub struct Machine {
    /// Its name.
    pub name: String,
    api: Api<VirtualMachine>,
    pods: Api<Pod>,
}

impl Machine {
    /// Makes it, as a user does.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn apply(
        cluster: &Cluster,
        namespace: &Namespace,
        vm: &Value,
    ) -> anyhow::Result<Self> {
        let mut vm = vm.clone();
        vm["metadata"]["namespace"] = json!(namespace.name);
        cluster.kubectl.apply(&vm).await?;
        let name = vm["metadata"]["name"].as_str().context("a name")?;
        Ok(Self {
            name: name.to_owned(),
            api: namespace.api(),
            pods: namespace.pods(),
        })
    }

    /// One that somebody else makes.
    #[must_use]
    pub fn existing(namespace: &Namespace, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            api: namespace.api(),
            pods: namespace.pods(),
        }
    }

    /// Waits until something holds for it.
    ///
    /// # Errors
    /// When it does not come to hold.
    pub async fn wait(
        &self,
        what: &str,
        holds: impl Fn(&VirtualMachineStatus) -> bool,
    ) -> anyhow::Result<VirtualMachineStatus> {
        let found = wait_for(
            &self.api,
            &self.name,
            what,
            |vm: Option<&VirtualMachine>| vm.and_then(|vm| vm.status.as_ref()).is_some_and(&holds),
        );
        let found = found.await?.and_then(|vm| vm.status);
        found.context("what was waited for is there")
    }

    /// Waits for a phase.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn phase_is(&self, phase: Phase) -> anyhow::Result<VirtualMachineStatus> {
        let what = format!("phase {phase:?}");
        self.wait(&what, |status| status.phase == Some(phase)).await
    }

    /// Waits until it runs in its pod of this number, and returns the pod.
    ///
    /// # Errors
    /// When it does not.
    pub async fn runs(&self, incarnation: i64) -> anyhow::Result<VmPod> {
        let what = format!("runs in pod {incarnation}");
        let status = self.wait(&what, |status| {
            status.phase == Some(Phase::Running) && status.incarnation == Some(incarnation)
        });
        let pod = status.await?.pod_name.context("a running VM has a pod")?;
        Ok(VmPod::existing(pod, self.pods.clone()))
    }

    /// The handle of one of its pods.
    #[must_use]
    pub fn pod(&self, incarnation: i64) -> VmPod {
        VmPod::existing(format!("{}-{incarnation}", self.name), self.pods.clone())
    }

    /// Changes it.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn merge(&self, patch: Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(patch);
        self.api
            .patch(&self.name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// Changes its run policy.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn run_policy(&self, policy: &str) -> anyhow::Result<()> {
        self.merge(json!({"spec": {"runPolicy": policy}})).await
    }

    /// Sets an annotation.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn annotate(&self, key: &str, value: &str) -> anyhow::Result<()> {
        self.merge(json!({"metadata": {"annotations": {key: value}}}))
            .await
    }

    /// Deletes it, and returns when it and its pods are gone.
    ///
    /// # Errors
    /// When one of them stays.
    pub async fn delete(&self, pod: &VmPod) -> anyhow::Result<()> {
        let parameters = DeleteParams::default();
        self.api.delete(&self.name, &parameters).await?;
        wait_for(
            &self.api,
            &self.name,
            "gone",
            |vm: Option<&VirtualMachine>| vm.is_none(),
        )
        .await?;
        pod.gone().await
    }
}

/// A condition of a VM.
#[must_use]
pub fn condition(status: &VirtualMachineStatus, kind: ConditionType) -> Option<&Condition> {
    let kind = format!("{kind:?}");
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
}
