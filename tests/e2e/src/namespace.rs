//! A namespace of a test's own, which enforces Pod Security `restricted`.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::{Namespace as Object, PersistentVolumeClaim, Pod};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;

use crate::cluster::Cluster;
use crate::wait::wait_for;

/// A namespace. Deleted, with all that is in it, when it is dropped.
pub struct Namespace {
    /// Its name.
    pub name: String,
    client: Client,
}

impl Namespace {
    /// A new one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn new(cluster: &Cluster) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("e2e-{}-{number}", std::process::id());
        let object: Object = serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        }))?;
        let client = cluster.client.clone();
        let all: Api<Object> = Api::all(client.clone());
        all.create(&PostParams::default(), &object).await?;
        let namespace = Self { name, client };
        // A pod is refused while the service account is not there.
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = namespace.api();
        wait_for(&accounts, "default", "made", |account| account.is_some()).await?;
        Ok(namespace)
    }

    /// What is in it, of one kind.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Its pods.
    #[must_use]
    pub fn pods(&self) -> Api<Pod> {
        self.api()
    }

    /// Its claims.
    #[must_use]
    pub fn claims(&self) -> Api<PersistentVolumeClaim> {
        self.api()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Not waited for: the next test has a namespace of its own.
        let _ = Command::new("kubectl")
            .args(["delete", "namespace", &self.name, "--wait=false"])
            .stdout(Stdio::null())
            .status();
    }
}
