//! A second node, for the tests that need two: a machine whose power and cable
//! are in their hands.

use std::process::{Command, Stdio};

use tokio::sync::{Mutex, MutexGuard};

use crate::cluster::{Cluster, repository};
use crate::node::{Node, script};

pub(crate) const SECOND: &str = "node2";
/// What keeps other tests' pods away from it; see `tests/e2e/cluster/node.sh`.
pub const TAINT: &str = "e2e.coracle.dev/second";
/// The label of the one node where a test wants its pods; its value is `here`.
pub const PLACE: &str = "e2e.coracle.dev/place";

/// Whose turn it is.
static TURN: Mutex<()> = Mutex::const_new(());

/// The second node. Dropping it switches it off and takes it out of the
/// cluster, so that the next test finds a new one.
pub struct SecondNode {
    node: Node,
    cluster: Cluster,
    _turn: MutexGuard<'static, ()>,
}

impl SecondNode {
    /// Switches it on and waits until it is ready; `None`, after saying so, on
    /// a cluster that was here before.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn on(cluster: &Cluster) -> anyhow::Result<Option<Self>> {
        let Some(first) = cluster.node() else {
            return Ok(None);
        };
        let turn = TURN.lock().await;
        let second = Self {
            node: Node::new(SECOND, first.dir().to_path_buf(), cluster.clone()),
            cluster: cluster.clone(),
            _turn: turn,
        };
        script("machine.sh", &["on", SECOND]).await?;
        Ok(Some(second))
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
        script("machine.sh", &["cut", SECOND]).await?;
        self.node.ready_is("Unknown").await
    }

    /// Puts the cable back, and waits until the node is ready.
    ///
    /// # Errors
    /// When it does not become so.
    pub async fn heal(&self) -> anyhow::Result<()> {
        script("machine.sh", &["heal", SECOND]).await?;
        self.node.ready_is("True").await
    }

    /// Cuts its power. Returns when nothing runs on it any more.
    ///
    /// # Errors
    /// When something does.
    pub async fn power_off(&self) -> anyhow::Result<()> {
        script("machine.sh", &["off", SECOND]).await
    }

    /// Says, as an administrator does, that it is switched off for good.
    ///
    /// # Errors
    /// When the API server will not hear it.
    pub async fn out_of_service(&self) -> anyhow::Result<()> {
        let taint = "node.kubernetes.io/out-of-service=off:NoExecute";
        let arguments = ["taint", "node", SECOND, taint];
        self.cluster.kubectl.run(&arguments).await?;
        Ok(())
    }

    /// Puts the label [`PLACE`] on one node, and on that one only.
    ///
    /// # Errors
    /// When a node cannot be labelled.
    pub async fn place(&self, node: &Node) -> anyhow::Result<()> {
        let names = ["get", "nodes", "-o", "name"];
        for name in self.cluster.kubectl.run(&names).await?.lines() {
            let here = name == format!("node/{}", node.name());
            let label = format!("{PLACE}{}", if here { "=here" } else { "-" });
            let arguments = ["label", "--overwrite", name, &label];
            self.cluster.kubectl.run(&arguments).await?;
        }
        Ok(())
    }
}

impl Drop for SecondNode {
    fn drop(&mut self) {
        let script = repository().join("tests/e2e/cluster/machine.sh");
        let mut off = Command::new(script);
        off.args(["off", SECOND]);
        let mut forget = Command::new("kubectl");
        forget.args(["delete", "node", SECOND, "--ignore-not-found"]);
        for command in [&mut off, &mut forget] {
            let _ = command.stdout(Stdio::null()).status();
        }
    }
}
