//! A second node, for the tests that need two: a machine whose power and cable
//! are in their hands.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::cluster::{Cluster, repository};
use crate::namespace::Namespace;
use crate::node::{Node, script};

/// A node beside the first, the test's own. Dropping it switches it off and
/// takes it out of the cluster.
pub struct SecondNode {
    node: Node,
    cluster: Cluster,
}

impl SecondNode {
    /// Switches it on and waits until it is ready; `None`, after saying so, on
    /// a cluster that was here before.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn on(cluster: &Cluster) -> anyhow::Result<Option<Self>> {
        static NEXT: AtomicU32 = AtomicU32::new(2);
        let Some(first) = cluster.node() else {
            return Ok(None);
        };
        let name = format!("node{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let second = Self {
            node: Node::new(name, first.dir().to_path_buf(), cluster.clone()),
            cluster: cluster.clone(),
        };
        second.power_on().await?;
        Ok(Some(second))
    }

    /// Switches it on, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become so.
    pub async fn power_on(&self) -> anyhow::Result<()> {
        self.machine("on").await
    }

    async fn machine(&self, action: &str) -> anyhow::Result<()> {
        script("machine.sh", &[action, self.node.name()]).await
    }

    /// What lets a pod come to it; it has a taint that keeps other tests' pods
    /// away.
    #[must_use]
    pub fn toleration(&self) -> Value {
        json!({"key": "e2e.coracle.dev/second", "value": self.node.name()})
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Pulls its cable, and waits until the cluster has noticed.
    ///
    /// # Errors
    /// When it does not.
    pub async fn cut(&self) -> anyhow::Result<()> {
        self.machine("cut").await?;
        self.node.ready_is("Unknown").await
    }

    /// Puts the cable back, and waits until the node is ready.
    ///
    /// # Errors
    /// When it does not become so.
    pub async fn heal(&self) -> anyhow::Result<()> {
        self.machine("heal").await?;
        self.node.ready_is("True").await
    }

    /// Cuts its power. Returns when nothing runs on it any more.
    ///
    /// # Errors
    /// When something does.
    pub async fn power_off(&self) -> anyhow::Result<()> {
        self.machine("off").await
    }

    /// Says, as an administrator does, that it is switched off for good.
    ///
    /// # Errors
    /// When the API server will not hear it.
    pub async fn out_of_service(&self) -> anyhow::Result<()> {
        let taint = "node.kubernetes.io/out-of-service=off:NoExecute";
        let arguments = ["taint", "node", self.node.name(), taint];
        self.cluster.kubectl.run(&arguments).await?;
        Ok(())
    }

    /// Puts the label of a namespace's pods, [`place`], on one node alone.
    ///
    /// # Errors
    /// When a node cannot be labelled.
    pub async fn place(&self, namespace: &Namespace, node: &Node) -> anyhow::Result<()> {
        let (label, there) = (place(namespace), self.node.name());
        let (here, nowhere) = (format!("{label}=here"), format!("{label}-"));
        if node.name() != there {
            let arguments = ["label", "node", there, &nowhere];
            self.cluster.kubectl.run(&arguments).await?;
        }
        let arguments = ["label", "node", node.name(), &here];
        self.cluster.kubectl.run(&arguments).await?;
        Ok(())
    }
}

/// The label of the one node where a test wants its pods; its value is `here`.
#[must_use]
pub fn place(namespace: &Namespace) -> String {
    format!("e2e.coracle.dev/{}", namespace.name)
}

impl Drop for SecondNode {
    fn drop(&mut self) {
        let script = repository().join("tests/e2e/cluster/machine.sh");
        let name = self.node.name();
        let mut off = Command::new(script);
        off.args(["off", name]);
        let mut forget = Command::new("kubectl");
        forget.args(["delete", "node", name, "--ignore-not-found"]);
        for command in [&mut off, &mut forget] {
            let _ = command.stdout(Stdio::null()).status();
        }
    }
}
