//! Coracle as `deploy/` installs it: controller, device plugin and prober in
//! pods of their own.
//!
//! Only for the suite `install`: on a node where the tests run the device
//! plugin themselves, two would wait for each other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use coracle_tests::skip;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::cluster::{Cluster, repository};
use crate::documents::kustomizations;
use crate::node::Node;

/// Where everything but the VMs is.
pub const NAMESPACE: &str = "coracle-system";
/// What is installed, as `kubectl rollout` calls it.
const PARTS: [&str; 3] = [
    "deployment/coracle-controller",
    "daemonset/coracle-device-plugin",
    "daemonset/coracle-prober",
];
const LEASE: &str = "coracle-controller";
/// The line of the documentation by which another probe level is set.
const PROBE_LEVEL_RUN: &str = "value: --kvm-probe=run";
/// The line by which containers may lock memory.
const MEMORY_LOCK: &str = "- ../deploy/components/memory-lock";

/// An installation, and the node that it is on.
pub struct Installation {
    /// The cluster.
    pub cluster: Cluster,
    /// Its node.
    pub node: Node,
}

impl Installation {
    /// As shipped: `kubectl apply -k deploy`. `None`, after saying why, where
    /// there is no cluster of our own.
    ///
    /// # Errors
    /// When it is refused, or a part does not get ready.
    pub async fn as_shipped() -> anyhow::Result<Option<Self>> {
        let installation = Self::somewhere().await?;
        if let Some(installation) = &installation {
            installation.apply(&repository().join("deploy")).await?;
        }
        Ok(installation)
    }

    /// With the setting that docs/device-plugin.md has for a KVM that runs
    /// boot sectors and no kernel, as it is on some machines.
    ///
    /// # Errors
    /// When it is refused, or a part does not get ready.
    pub async fn at_level_run() -> anyhow::Result<Option<Self>> {
        let installation = Self::somewhere().await?;
        if let Some(installation) = &installation {
            let text = level_run()?;
            installation.apply_kustomization("level-run", &text).await?;
        }
        Ok(installation)
    }

    /// With further devices and the component `memory-lock`, as
    /// docs/device-plugin.md has it.
    ///
    /// # Errors
    /// When it is refused, or a part does not get ready.
    pub async fn with_memory_lock() -> anyhow::Result<Option<Self>> {
        let installation = Self::somewhere().await?;
        if let Some(installation) = &installation {
            let text = documented(MEMORY_LOCK)?;
            installation
                .apply_kustomization("memory-lock", &text)
                .await?;
        }
        Ok(installation)
    }

    async fn somewhere() -> anyhow::Result<Option<Self>> {
        let Some(cluster) = Cluster::bare().await? else {
            return Ok(None);
        };
        if !Path::new("/dev/kvm").exists() {
            skip("there is no /dev/kvm");
            return Ok(None);
        }
        let node = cluster.node();
        Ok(node.map(|node| Self { cluster, node }))
    }

    /// The release called `tag`, at the level of [`Self::at_level_run`]: the
    /// same programs in images with another tag.
    ///
    /// # Errors
    /// When it is refused, or a part does not get ready.
    pub async fn upgrade_to(&self, tag: &str) -> anyhow::Result<()> {
        let mut renamed = Vec::new();
        for image in ["controller", "device-plugin"] {
            let name = format!("coracle.dev/{image}");
            let from = format!("{name}:{}", env!("CARGO_PKG_VERSION"));
            self.node.tag_image(&from, &format!("{name}:{tag}")).await?;
            renamed.push(format!("{{name: {name}, newTag: {tag}}}"));
        }
        let text = format!("{}images: [{}]\n", level_run()?, renamed.join(", "));
        self.apply_kustomization("upgrade", &text).await
    }

    /// `kubectl rollout restart` of every part.
    ///
    /// # Errors
    /// When a part does not get ready again.
    pub async fn restart(&self) -> anyhow::Result<()> {
        let restart = [&["-n", NAMESPACE, "rollout", "restart"], &PARTS[..]].concat();
        self.cluster.kubectl.run(&restart).await?;
        self.rolled_out().await
    }

    /// Applies a kustomization of an administrator, which names `../deploy`.
    async fn apply_kustomization(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let dir = self.write_kustomization(name, text)?;
        self.apply(&dir).await
    }

    /// A directory with a kustomization that names `../deploy`, where that is
    /// the checkout's.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_kustomization(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let dir = self.node.dir().join("kustomize").join(name);
        fs::create_dir_all(&dir)?;
        // Kustomize takes no absolute paths, and follows no links.
        let up = "../".repeat(dir.components().count() - 1);
        let deploy = repository().join("deploy");
        let deploy = deploy.strip_prefix("/").context("an absolute path")?;
        let text = text.replace("../deploy", &format!("{up}{}", deploy.display()));
        fs::write(dir.join("kustomization.yaml"), text)?;
        Ok(dir)
    }

    async fn apply(&self, dir: &Path) -> anyhow::Result<()> {
        let dir = dir.display().to_string();
        self.cluster.kubectl.run(&["apply", "-k", &dir]).await?;
        self.rolled_out().await
    }

    async fn rolled_out(&self) -> anyhow::Result<()> {
        for part in PARTS {
            let status = ["-n", NAMESPACE, "rollout", "status", part, "--timeout=180s"];
            self.cluster.kubectl.run(&status).await?;
        }
        Ok(())
    }

    /// `kubectl delete -k deploy`.
    ///
    /// # Errors
    /// When something stays.
    pub async fn uninstall(&self) -> anyhow::Result<()> {
        let deploy = repository().join("deploy").display().to_string();
        let delete = ["delete", "-k", &deploy, "--timeout=180s"];
        self.cluster.kubectl.run(&delete).await?;
        Ok(())
    }

    /// What the pods of a component have logged since they started.
    ///
    /// # Errors
    /// When the kubelet does not show it.
    pub async fn log(&self, component: &str) -> anyhow::Result<String> {
        let selector = format!("app.kubernetes.io/component={component}");
        let logs = ["-n", NAMESPACE, "logs", "-l", &selector, "--tail=-1"];
        self.cluster.kubectl.run(&logs).await
    }

    /// What the device plugin counts.
    ///
    /// # Errors
    /// When there is not one of it, or it does not answer.
    pub async fn plugin_metrics(&self) -> anyhow::Result<String> {
        let component = "app.kubernetes.io/component=device-plugin";
        let wanted = ListParams::default().labels(component);
        let pods = self.pods().list(&wanted).await?;
        let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        let [name] = names.as_slice() else {
            bail!("one device plugin: {names:?}");
        };
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:8080/proxy/metrics");
        self.cluster.kubectl.run(&["get", "--raw", &path]).await
    }

    /// Its pods.
    #[must_use]
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.cluster.client.clone(), NAMESPACE)
    }

    /// The lease by which the controller's replicas agree.
    #[must_use]
    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.cluster.client.clone(), NAMESPACE)
    }

    /// The replica that leads; nothing while none does.
    ///
    /// # Errors
    /// When the lease cannot be read.
    pub async fn leader(&self) -> anyhow::Result<Option<String>> {
        let lease = self.leases().get_opt(LEASE).await?;
        let holder = lease.and_then(|lease| lease.spec?.holder_identity);
        Ok(holder.filter(|holder| !holder.is_empty()))
    }
}

/// The documented kustomization for the probe level `run`, of all of Coracle.
fn level_run() -> anyhow::Result<String> {
    let all = "../deploy/base";
    let only_plugin = "../deploy/device-plugin ";
    Ok(documented(PROBE_LEVEL_RUN)?.replace(only_plugin, &format!("{all} ")))
}

/// The documented kustomization that has this line.
fn documented(line: &str) -> anyhow::Result<String> {
    let documented = kustomizations("docs/device-plugin.md")?;
    let mut matching = documented
        .into_iter()
        .filter(|block| block.text.contains(line));
    let block = matching.next().with_context(|| line.to_owned())?;
    ensure!(matching.next().is_none(), "{line}: documented twice");
    Ok(block.text)
}
