//! The device plugin as a plugin of the real container runtime: which
//! containers may lock memory.
//!
//! No machine of the tests has VFIO. What the runtime knows of a container is
//! its environment and its device nodes, so a node with the name of a VFIO
//! group stands for one here; it is /dev/null's, and leads to no device.

use anyhow::{Context, ensure};
use coracle_e2e::{
    Cluster, Component, DeviceNodes, Namespace, Node, OwnPlugin, PodFacts, plain_pod, until,
    wait_for,
};
use coracle_tests::skip;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::api::{LogParams, PostParams};
use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};

use crate::devices::configure;

const BUSYBOX: &str = "coracle.dev/e2e-busybox:1";
const GROUP: &str = "example.com/group";
const BY_CDI: &str = "example.com/by-cdi";
const OTHER: &str = "example.com/other";
/// `RLIM_INFINITY`.
const UNLIMITED: u64 = u64::MAX;
const VFIO: &str = "/dev/vfio";
const SOCKET: &str = "/var/run/nri/nri.sock";

/// Two nodes that look like those of VFIO's groups, one of them given by CDI,
/// and one that does not, as resources; gone with the test.
struct Offered {
    _by_cdi: OwnPlugin,
    _nodes: DeviceNodes,
    /// After what is in it.
    _directory: Directory,
}

/// `/dev/vfio`, removed unless there is something in it.
struct Directory;

impl Offered {
    async fn new(node: &Node) -> anyhow::Result<Self> {
        std::fs::create_dir_all(VFIO)?;
        let directory = Directory;
        let id = std::process::id();
        // Not the numbers of groups that there are.
        let [group, by_cdi] = [4, 5].map(|first| format!("{VFIO}/{first}{id:07}"));
        let other = format!("/dev/coracle-e2e-{id}-other");
        let line =
            |name, path| format!("- {{name: {name}, chardev: [{{glob: {path}, count: 5}}]}}\n");
        configure(node, &[&line(GROUP, &group), &line(OTHER, &other)])?;
        let line = line(BY_CDI, &by_cdi);
        let nodes = DeviceNodes::at(vec![group.into(), other.into(), by_cdi.into()])?;
        let arguments = ["--cdi-dir", "/var/run/cdi"];
        let offered = Self {
            _by_cdi: OwnPlugin::start(node, "by-cdi", &line, &arguments)?,
            _nodes: nodes,
            _directory: directory,
        };
        for resource in [GROUP, BY_CDI, OTHER] {
            node.offers(resource, 5).await?;
        }
        Ok(offered)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(VFIO);
    }
}

/// What the runtime was told of a container's limit on locked memory.
fn limit(spec: &Value) -> Option<(u64, u64)> {
    let limits = spec["process"]["rlimits"].as_array()?;
    let limit = limits
        .iter()
        .find(|limit| limit["type"] == "RLIMIT_MEMLOCK")?;
    Some((limit["soft"].as_u64()?, limit["hard"].as_u64()?))
}

/// Whether containers can be started here with more than the runtime has.
fn may_raise() -> anyhow::Result<bool> {
    /// The bit of `CAP_SYS_RESOURCE`.
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = u64::from_str_radix(line.context("CapEff")?.trim(), 16)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    Ok(capabilities & SYS_RESOURCE != 0 || hard == UNLIMITED)
}

/// A pod with one of a resource that shows its limit; when it has run, or
/// cannot.
async fn shown(namespace: &Namespace, name: &str, limits: Value) -> anyhow::Result<Pod> {
    let pod = plain_pod(name, BUSYBOX, &["cat", "/proc/self/limits"], limits);
    let pods = namespace.pods();
    pods.create(&PostParams::default(), &pod).await?;
    let settled = |pod: Option<&Pod>| {
        pod.is_some_and(|pod| pod.exit_code().is_some() || matches!(pod.phase(), "Failed"))
    };
    let settled = wait_for(&pods, name, "it has run", settled).await?;
    settled.context("it is there")
}

/// The runtime's words for a container that it cannot start.
fn refusal(pod: &Pod) -> Option<&str> {
    let state: &ContainerState = pod.container()?.state.as_ref()?;
    state.terminated.as_ref()?.message.as_deref()
}

/// A container with a group's node, as the runtime makes and starts it.
async fn is_raised(
    node: &Node,
    namespace: &Namespace,
    (name, resource): (&str, &str),
) -> anyhow::Result<()> {
    let pod = shown(namespace, name, json!({resource: "1"})).await?;
    let spec = node.container_spec(&pod).await?;
    ensure!(limit(&spec) == Some((UNLIMITED, UNLIMITED)), "{spec:#}");
    if !may_raise()? {
        let said = refusal(&pod).unwrap_or_default();
        ensure!(said.contains("rlimit"), "{said:?}: {:#?}", pod.status);
        skip("the start of a container that may lock memory: no CAP_SYS_RESOURCE here");
        return Ok(());
    }
    let said = namespace.pods().logs(name, &LogParams::default()).await?;
    let line = said.lines().find(|line| line.contains("locked memory"));
    let line = line.with_context(|| said.clone())?;
    let unlimited = line.split_whitespace().filter(|word| *word == "unlimited");
    ensure!(unlimited.count() == 2, "{line}");
    Ok(())
}

/// How often the runtime has taken the plugin in.
fn connections(node: &Node) -> anyhow::Result<usize> {
    let log = node.log(Component::DevicePlugin)?;
    // "not connected …" goes on.
    let connected = |line: &&str| line.ends_with(" connected with the container runtime");
    Ok(log.lines().filter(connected).count())
}

async fn connected_again(node: &Node, before: usize) -> anyhow::Result<()> {
    until("the plugin is connected with the runtime", async || {
        Ok((connections(node)? > before).then_some(()))
    })
    .await
}

#[tokio::test]
async fn containers_with_a_node_of_vfio_may_lock_memory_and_no_others() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let Some(node) = cluster.node_with_plugin().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    if !std::path::Path::new(SOCKET).exists() {
        skip("the container runtime has no NRI");
        return Ok(());
    }
    connected_again(&node, 0).await?;
    let _offered = Offered::new(&node).await?;
    let namespace = Namespace::new(&cluster).await?;
    for pod in [("with", GROUP), ("by-cdi", BY_CDI)] {
        Box::pin(is_raised(&node, &namespace, pod)).await?;
    }
    for (name, limits) in [("other", json!({OTHER: "1"})), ("without", json!({}))] {
        let pod = shown(&namespace, name, limits).await?;
        let spec = node.container_spec(&pod).await?;
        ensure!(limit(&spec).is_none(), "{name}: {spec:#}");
        ensure!(pod.exit_code() == Some(0), "{name}: {:#?}", pod.status);
    }

    // A runtime that was restarted asks again.
    let before = connections(&node)?;
    node.kill(Component::Containerd).await?;
    node.start(Component::Containerd).await?;
    node.ready_is("True").await?;
    connected_again(&node, before).await?;
    Box::pin(is_raised(&node, &namespace, ("again", GROUP))).await?;
    configure(&node, &[])?;
    node.offers(GROUP, 0).await
}
