//! The cluster that the tests run on.

use std::path::PathBuf;

use anyhow::{Context, bail};
use coracle_tests::skip;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::kubectl::Kubectl;
use crate::node::{Component, FIRST, Node};
use crate::wait::wait_for;

/// Says which kind of cluster there is: `own` or `existing`.
const KIND: &str = "CORACLE_E2E";
/// The directory of our own cluster.
const DIRECTORY: &str = "E2E";
const DEFINITION: &str = "virtualmachines.coracle.dev";

/// Who is on the node: many, or one who disturbs it.
static OCCUPIED: RwLock<()> = RwLock::const_new(());
static DEFINED: OnceCell<()> = OnceCell::const_new();

/// A cluster.
#[derive(Clone)]
pub struct Cluster {
    /// A client with every right.
    pub client: Client,
    /// The command line.
    pub kubectl: Kubectl,
    own: Option<PathBuf>,
}

impl Cluster {
    /// The cluster, with Coracle's custom resource; `None`, after saying why,
    /// when there is none.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn get() -> anyhow::Result<Option<Self>> {
        let Some(cluster) = Self::bare().await? else {
            return Ok(None);
        };
        DEFINED.get_or_try_init(|| cluster.define()).await?;
        Ok(Some(cluster))
    }

    /// The cluster as it is, without anything of Coracle's; `None`, after
    /// saying why, when there is none.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn bare() -> anyhow::Result<Option<Self>> {
        let own = match std::env::var(KIND).as_deref() {
            Err(_) => {
                skip("no cluster: run make e2e");
                return Ok(None);
            }
            Ok("existing") => None,
            Ok("own") => Some(
                std::env::var_os(DIRECTORY)
                    .context("E2E is not set")?
                    .into(),
            ),
            Ok(other) => bail!("{KIND}={other}: it is own or existing"),
        };
        let client = Client::try_default().await.context("KUBECONFIG")?;
        Ok(Some(Self {
            client,
            kubectl: Kubectl,
            own,
        }))
    }

    async fn define(&self) -> anyhow::Result<()> {
        let file = repository().join(format!("deploy/crds/{DEFINITION}.yaml"));
        let file = file.display().to_string();
        self.kubectl
            .run(&["apply", "--server-side", "-f", &file])
            .await?;
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        wait_for(&definitions, DEFINITION, "established", |definition| {
            let conditions =
                definition.and_then(|definition| definition.status.as_ref()?.conditions.as_ref());
            conditions
                .into_iter()
                .flatten()
                .any(|condition| condition.type_ == "Established" && condition.status == "True")
        })
        .await?;
        Ok(())
    }

    /// Whether the cluster was made for the tests.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// The node in our hands; `None`, after saying so, on a cluster that was
    /// here before.
    #[must_use]
    pub fn node(&self) -> Option<Node> {
        let Some(dir) = &self.own else {
            skip("needs the node's programs in its hands: run make e2e without KUBECONFIG");
            return None;
        };
        Some(Node::new(FIRST.to_owned(), dir.clone(), self.clone()))
    }

    /// The node with its device plugin.
    ///
    /// # Errors
    /// When the plugin does not start.
    pub async fn node_with_plugin(&self) -> anyhow::Result<Option<Node>> {
        static EQUIPPED: OnceCell<()> = OnceCell::const_new();
        let Some(node) = self.node() else {
            return Ok(None);
        };
        if !std::path::Path::new("/dev/kvm").exists() {
            skip("there is no /dev/kvm");
            return Ok(None);
        }
        let equip = || async {
            node.start(Component::DevicePlugin).await?;
            node.allocatable_is(crate::node::KVM_COUNT).await
        };
        EQUIPPED.get_or_try_init(equip).await?;
        Ok(Some(node))
    }

    /// The node, and the controller with the rights that it is installed with.
    ///
    /// # Errors
    /// When the controller does not start.
    pub async fn node_with_controller(&self) -> anyhow::Result<Option<Node>> {
        static STARTED: OnceCell<()> = OnceCell::const_new();
        let Some(node) = self.node() else {
            return Ok(None);
        };
        let start = || async {
            self.granted().await?;
            node.start(Component::Controller).await
        };
        STARTED.get_or_try_init(start).await?;
        Ok(Some(node))
    }

    /// Whether the rights that Coracle is installed with are granted: always on
    /// our own cluster. On one that exists they are left as they are; says so
    /// when there are none.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn granted(&self) -> anyhow::Result<bool> {
        static GRANTED: OnceCell<()> = OnceCell::const_new();
        if self.own.is_none() {
            let role = ["get", "clusterrole", "coracle-controller"];
            let installed = self.kubectl.call(&role).await?.ok;
            if !installed {
                skip("Coracle is not installed on this cluster");
            }
            return Ok(installed);
        }
        let grant = || async {
            for file in ["device-plugin/namespace.yaml", "controller/rbac.yaml"] {
                let file = repository().join("deploy").join(file);
                let file = file.display().to_string();
                self.kubectl.run(&["apply", "-f", &file]).await?;
            }
            anyhow::Ok(())
        };
        GRANTED.get_or_try_init(grant).await?;
        Ok(true)
    }

    /// For a test that lets others run beside it.
    pub async fn shared(&self) -> RwLockReadGuard<'static, ()> {
        OCCUPIED.read().await
    }

    /// For a test that stops what others need.
    pub async fn alone(&self) -> RwLockWriteGuard<'static, ()> {
        OCCUPIED.write().await
    }
}

/// The checkout.
pub(crate) fn repository() -> PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}
