//! A VM's pod without its controller: the very pod that the library builds,
//! made as any user would make a pod.

use std::collections::BTreeMap;
use std::pin::pin;

use anyhow::{Context, bail};
use coracle_api::report::TerminationMessage;
use coracle_api::vm::VirtualMachine;
use coracle_controller::{Observed, Restarts, Settings};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{
    DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

use crate::namespace::Namespace;
use crate::pod::PodFacts;
use crate::wait::{PATIENCE, until, wait_for};

/// A VM that boots from the claim `root`: one CPU, 64 MiB, with these fields
/// of its spec set.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "it is called with json!(…)")]
pub fn vm_object(name: &str, fields: Value) -> Value {
    let mut vm = json!({
        "apiVersion": "coracle.dev/v1alpha1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {
            "accelerator": "Emulation",
            "memory": "64Mi",
            "disks": [{"name": "root", "bootOrder": 1, "claim": {"name": "root"}}],
        },
    });
    if let (Some(spec), Some(fields)) = (vm["spec"].as_object_mut(), fields.as_object()) {
        spec.extend(fields.clone());
    }
    vm
}

/// The pod of a VM.
pub struct VmPod {
    /// Its name.
    pub name: String,
    pods: Api<Pod>,
}

impl VmPod {
    /// The pod that the library builds for a VM, not made yet.
    ///
    /// # Errors
    /// When the VM is refused.
    pub async fn build(namespace: &Namespace, vm: &Value) -> anyhow::Result<Pod> {
        let mut vm: VirtualMachine = serde_json::from_value(vm.clone())?;
        vm.metadata.namespace = Some(namespace.name.clone());
        let mut claims = BTreeMap::new();
        for claim in namespace.claims().list(&ListParams::default()).await? {
            claims.insert(claim.metadata.name.clone().unwrap_or_default(), claim);
        }
        let observed = Observed {
            claims,
            ..Observed::default()
        };
        let settings = Settings {
            image: format!("coracle.dev/vm:{}", env!("CARGO_PKG_VERSION")),
            importer: format!("coracle.dev/importer:{}", env!("CARGO_PKG_VERSION")),
            restarts: Restarts::ByExitCode,
        };
        Ok(coracle_controller::pod(&vm, 1, &observed, &settings)?)
    }

    /// Makes the pod of a VM.
    ///
    /// # Errors
    /// When the VM or the pod is refused.
    pub async fn create(namespace: &Namespace, vm: &Value) -> anyhow::Result<Self> {
        let pod = Self::build(namespace, vm).await?;
        Self::make(namespace, &pod).await
    }

    /// Makes a pod that was built.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn make(namespace: &Namespace, pod: &Pod) -> anyhow::Result<Self> {
        let pods = namespace.pods();
        pods.create(&PostParams::default(), pod).await?;
        let name = pod
            .metadata
            .name
            .clone()
            .context("a built pod has a name")?;
        Ok(Self { name, pods })
    }

    /// The handle of a pod that its controller made.
    pub(crate) fn existing(name: String, pods: Api<Pod>) -> Self {
        Self { name, pods }
    }

    /// The pod as it is.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn get(&self) -> anyhow::Result<Pod> {
        Ok(self.pods.get(&self.name).await?)
    }

    /// Waits until something holds for the pod.
    ///
    /// # Errors
    /// When it does not come to hold.
    pub async fn wait(&self, what: &str, holds: impl Fn(&Pod) -> bool) -> anyhow::Result<Pod> {
        let found = wait_for(&self.pods, &self.name, what, |pod| pod.is_some_and(&holds)).await?;
        found.context("the pod is there")
    }

    /// The guest's console so far, of this start of the container or of the
    /// one before.
    ///
    /// # Errors
    /// When the kubelet does not show it.
    pub async fn console(&self, previous: bool) -> anyhow::Result<String> {
        let parameters = LogParams {
            previous,
            ..LogParams::default()
        };
        Ok(self.pods.logs(&self.name, &parameters).await?)
    }

    /// Waits until the guest has said something.
    ///
    /// # Errors
    /// When it does not.
    pub async fn says(&self, text: &str) -> anyhow::Result<()> {
        until(&format!("the guest says {text:?}"), async || {
            // No log is there before the container has started.
            let console = self.console(false).await.unwrap_or_default();
            Ok(console.contains(text).then_some(()))
        })
        .await
    }

    /// Sets an annotation.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn annotate(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        self.pods
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Deletes it, with the time it was given, and returns what its container
    /// said at its end.
    ///
    /// # Errors
    /// When it stays, or goes without a word.
    pub async fn delete(&self) -> anyhow::Result<TerminationMessage> {
        let only = WatchParams::default().fields(&format!("metadata.name={}", self.name));
        let version = self.get().await?.metadata.resource_version;
        // Watched before it is asked for: the pod's last words go with it.
        let events = self.pods.watch(&only, &version.unwrap_or_default()).await?;
        let mut events = pin!(events);
        self.pods
            .delete(&self.name, &DeleteParams::default())
            .await?;
        let last = async {
            while let Some(event) = events.try_next().await? {
                if let WatchEvent::Deleted(pod) = event {
                    return termination(&pod).context("it went without a word");
                }
            }
            bail!("the watch ended before the pod")
        };
        timeout(PATIENCE, last).await.context("it is not gone")?
    }

    /// Waits until it is gone.
    ///
    /// # Errors
    /// When it stays.
    pub async fn gone(&self) -> anyhow::Result<()> {
        wait_for(&self.pods, &self.name, "gone", |pod: Option<&Pod>| {
            pod.is_none()
        })
        .await?;
        Ok(())
    }

    /// Waits for its end, and returns it with its termination message.
    ///
    /// # Errors
    /// When it goes on, or says nothing that is a termination message.
    pub async fn end(&self) -> anyhow::Result<(Pod, TerminationMessage)> {
        let pod = self
            .wait("ended", |pod| matches!(pod.phase(), "Succeeded" | "Failed"))
            .await?;
        let message = termination(&pod).context("an ended container has a message")?;
        Ok((pod, message))
    }
}

/// The termination message of a pod's last ended container.
#[must_use]
pub fn termination(pod: &Pod) -> Option<TerminationMessage> {
    let status = pod.container()?;
    let ended = [status.state.as_ref(), status.last_state.as_ref()]
        .into_iter()
        .flatten()
        .find_map(|state| state.terminated.as_ref())?;
    serde_json::from_str(ended.message.as_ref()?).ok()
}
