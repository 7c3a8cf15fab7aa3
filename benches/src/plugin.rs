//! The device plugin under a kubelet that restarts, and with many devices: how
//! long it takes until it is registered, until its list is there, until a
//! device is given out, and until the kubelet knows that one is gone, of which
//! the plugin hears from a directory's events or from the kernel's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use coracle_api::names::RESOURCE_KVM;
use coracle_kubelet::{Device, Kubelet, Options};
use coracle_proto::deviceplugin::device_plugin_client::DevicePluginClient;
use coracle_proto::deviceplugin::{AllocateRequest, ContainerAllocateRequest, Empty};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::process;
use crate::stats::{Results, quantile};

const RESTARTS: usize = 200;
const FLIPS: usize = 20;
const ALLOCATIONS: usize = 2000;
/// So many resources, each with so many devices.
const RESOURCES: usize = 10;
const DEVICES: usize = 1000;
/// Between two flips: a device that flaps is told of ten times a second at
/// most, and these are single ones.
const SETTLED: Duration = Duration::from_millis(250);
/// Where the kernel can be asked for an event of a device.
const UEVENT: &str = "/sys/class/mem/null/uevent";
/// Where the kubelet tells what is in use.
const IN_USE: &str = "pod-resources.sock";
/// How long CPU time is counted.
const IDLE: Duration = Duration::from_secs(20);
/// A state that does not come within this time never does.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn measure(program: &Path, results: &mut Results) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        restarts_and_flips(program, results).await?;
        kernel_events(program, results).await?;
        many_devices(program, Shape::Slots, results).await?;
        many_devices(program, Shape::Nodes, results).await
    })
}

/// A node of the measurement: devices of its own, and the plugin.
struct Node {
    dir: TempDir,
    plugin: Option<Child>,
}

impl Node {
    fn new() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("coracle-bench.")
            .tempdir_in("/run")?;
        fs::create_dir(dir.path().join("dev"))?;
        Ok(Self { dir, plugin: None })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the plugin with further arguments.
    fn start(&mut self, program: &Path, arguments: &[&str]) -> anyhow::Result<()> {
        let plugin = Command::new(program)
            .arg("run")
            .arg("--kubelet-dir")
            .arg(self.path("kubelet"))
            .arg("--node-dir")
            .arg(self.path("nodes"))
            .arg("--dev-dir")
            .arg(self.path("dev"))
            .args(["--kvm-probe=open", "--tun-count=0"])
            .args(["--vhost-net-count=0", "--vhost-vsock-count=0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        self.plugin = Some(plugin);
        Ok(())
    }

    async fn kubelet(&self) -> anyhow::Result<Kubelet> {
        let options = Options {
            pod_resources: Some(self.path(IN_USE)),
            ..Options::default()
        };
        Ok(Kubelet::serve(&self.path("kubelet"), options).await?)
    }

    fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.plugin.as_ref().context("the plugin runs")?.id())
    }

    fn plug_in(&self, name: &str, rdev: u64) -> anyhow::Result<()> {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Ok(mknod(&self.path(name), SFlag::S_IFCHR, mode, rdev)?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(plugin) = &mut self.plugin {
            let _ = plugin.kill();
            let _ = plugin.wait();
        }
    }
}

/// Whether there are so many devices, all healthy or none.
fn all(count: usize, healthy: bool) -> impl Fn(&[Device]) -> bool {
    move |devices| devices.len() == count && devices.iter().all(|d| d.healthy == healthy)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// The 99th percentile beside the median.
fn latencies(results: &mut Results, what: &str, values: Vec<f64>, goal: Option<&str>) {
    let p99 = quantile(&values, 0.99);
    results.figure(format!("{what}, p99"), "ms", vec![p99], goal);
    results.figure(what, "ms", values, None);
}

async fn restarts_and_flips(program: &Path, results: &mut Results) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let kvm = fs::metadata("/dev/kvm").context("/dev/kvm")?.rdev();
    let mut node = Node::new()?;
    node.plug_in("dev/kvm", kvm)?;
    let mut kubelet = node.kubelet().await?;
    node.start(program, &["--kvm-count", &DEVICES.to_string()])?;
    kubelet
        .wait_for(RESOURCE_KVM, all(DEVICES, true), LIMIT)
        .await?;
    let mut registered = vec![];
    for _ in 0..RESTARTS {
        kubelet.stop().await;
        let begun = Instant::now();
        kubelet = node.kubelet().await?;
        kubelet
            .wait_for(RESOURCE_KVM, all(DEVICES, true), LIMIT)
            .await?;
        registered.push(milliseconds(begun));
    }
    let what = "from kubelet.sock to the kubelet's list of 1000";
    latencies(results, what, registered, Some("≤ 100"));
    let (mut gone, mut back) = (vec![], vec![]);
    for _ in 0..FLIPS {
        tokio::time::sleep(SETTLED).await;
        let begun = Instant::now();
        fs::remove_file(node.path("dev/kvm"))?;
        kubelet
            .wait_for(RESOURCE_KVM, all(DEVICES, false), LIMIT)
            .await?;
        gone.push(milliseconds(begun));
        tokio::time::sleep(SETTLED).await;
        let begun = Instant::now();
        node.plug_in("dev/kvm", kvm)?;
        kubelet
            .wait_for(RESOURCE_KVM, all(DEVICES, true), LIMIT)
            .await?;
        back.push(milliseconds(begun));
    }
    latencies(
        results,
        "KVM gone until the kubelet knows, by inotify",
        gone,
        Some("≤ 50"),
    );
    results.figure("KVM back until the kubelet knows", "ms", back, None);
    kubelet.stop().await;
    Ok(())
}

/// A PCI function in a tree like sysfs, where changes make no events of files:
/// it loses its driver and gets it back, and the kernel says that something
/// happened.
async fn kernel_events(program: &Path, results: &mut Results) -> anyhow::Result<()> {
    let name = "example.com/function";
    let mut node = Node::new()?;
    let function = node.path("sys/bus/pci/devices/0000:01:00.0");
    fs::create_dir_all(&function)?;
    for (attribute, value) in [
        ("vendor", "0x10de"),
        ("device", "0x2236"),
        ("class", "0x030200"),
    ] {
        fs::write(function.join(attribute), value)?;
    }
    symlink(
        "../../../kernel/iommu_groups/7",
        function.join("iommu_group"),
    )?;
    let driver = function.join("driver");
    let bind = || symlink("../../../bus/pci/drivers/vfio-pci", &driver);
    bind()?;
    fs::create_dir(node.path("dev/vfio"))?;
    node.plug_in("dev/vfio/vfio", makedev(240, 0))?;
    node.plug_in("dev/vfio/7", makedev(240, 7))?;
    let config = node.path("devices.yaml");
    let line = format!("resources: [{{name: {name}, pci: [{{vendor: 10de}}]}}]");
    fs::write(&config, line)?;
    let kubelet = node.kubelet().await?;
    let (config, sys) = (
        config.display().to_string(),
        node.path("sys").display().to_string(),
    );
    let arguments = ["--kvm-count=0", "--config", &config, "--sys-dir", &sys];
    node.start(program, &arguments)?;
    kubelet.wait_for(name, all(1, true), LIMIT).await?;
    let mut gone = vec![];
    for _ in 0..FLIPS {
        tokio::time::sleep(SETTLED).await;
        let begun = Instant::now();
        fs::remove_file(&driver)?;
        fs::write(UEVENT, "add").with_context(|| UEVENT.to_owned())?;
        kubelet.wait_for(name, all(1, false), LIMIT).await?;
        gone.push(milliseconds(begun));
        tokio::time::sleep(SETTLED).await;
        bind()?;
        fs::write(UEVENT, "add").with_context(|| UEVENT.to_owned())?;
        kubelet.wait_for(name, all(1, true), LIMIT).await?;
    }
    let what = "PCI function unusable until the kubelet knows, by uevent";
    latencies(results, what, gone, Some("≤ 50"));
    kubelet.stop().await;
    Ok(())
}

/// What the devices of a resource are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Slots of one node.
    Slots,
    /// A node each, which one container has at a time.
    Nodes,
}

impl Shape {
    /// Makes the nodes of a resource, and returns its line of the
    /// configuration file.
    fn plug_in(self, node: &Node, index: usize) -> anyhow::Result<String> {
        let major = 240 + u64::try_from(index)?;
        let devices = match self {
            Self::Slots => {
                node.plug_in(&format!("dev/bench{index}"), makedev(major, 0))?;
                format!("glob: /dev/bench{index}, count: {DEVICES}")
            }
            Self::Nodes => {
                fs::create_dir(node.path(&format!("dev/bench{index}")))?;
                for device in 0..DEVICES {
                    let rdev = makedev(major, u64::try_from(device)?);
                    node.plug_in(&format!("dev/bench{index}/{device}"), rdev)?;
                }
                format!("glob: \"/dev/bench{index}/*\"")
            }
        };
        Ok(format!(
            "- {{name: example.com/bench{index}, chardev: [{{{devices}}}]}}\n"
        ))
    }

    /// How the devices are called in the table.
    fn name(self) -> &'static str {
        match self {
            Self::Slots => "10×1000 slots",
            Self::Nodes => "10×1000 device nodes",
        }
    }

    /// The goals for time are for slots, of which every node has thousands.
    fn goal(self, goal: &'static str) -> Option<&'static str> {
        (self == Self::Slots).then_some(goal)
    }
}

async fn many_devices(program: &Path, shape: Shape, results: &mut Results) -> anyhow::Result<()> {
    let mut node = Node::new()?;
    let mut text = "resources:\n".to_owned();
    for index in 0..RESOURCES {
        text.push_str(&shape.plug_in(&node, index)?);
    }
    let config = node.path("devices.yaml");
    fs::write(&config, text)?;
    let kubelet = node.kubelet().await?;
    let [config, in_use] = [config, node.path(IN_USE)].map(|path| path.display().to_string());
    let arguments = [
        "--kvm-count=0",
        "--config",
        &config,
        "--pod-resources",
        &in_use,
    ];
    node.start(program, &arguments)?;
    for index in 0..RESOURCES {
        let name = format!("example.com/bench{index}");
        kubelet.wait_for(&name, all(DEVICES, true), LIMIT).await?;
    }
    calls(&node, shape, results).await?;
    let before = process::cpu_seconds(node.pid()?)?;
    tokio::time::sleep(IDLE).await;
    let used = process::cpu_seconds(node.pid()?)? - before;
    let percent = used / IDLE.as_secs_f64() * 100.0;
    let what = format!("CPU of the idle plugin with {}", shape.name());
    results.figure(what, "%", vec![percent], shape.goal("≤ 0.1"));
    let pss = process::rollup_mib(node.pid()?, &["Pss"])?;
    let what = format!("device plugin with {}, PSS", shape.name());
    results.figure(what, "MiB", vec![pss], Some("≤ 8"));
    kubelet.stop().await;
    Ok(())
}

/// The first lists, and allocations.
async fn calls(node: &Node, shape: Shape, results: &mut Results) -> anyhow::Result<()> {
    let mut clients = clients(node).await?;
    let mut lists = vec![];
    for _ in 0..FLIPS {
        let begun = Instant::now();
        for client in &mut clients {
            let mut stream = client.list_and_watch(Empty {}).await?.into_inner();
            let list = stream.message().await?.context("a list")?;
            ensure!(list.devices.len() == DEVICES);
        }
        lists.push(milliseconds(begun));
    }
    let what = format!("ListAndWatch, first lists of {}", shape.name());
    latencies(results, &what, lists, shape.goal("≤ 50"));
    let client = clients.first_mut().context("a plugin's socket")?;
    let mut stream = client.list_and_watch(Empty {}).await?.into_inner();
    let list = stream.message().await?.context("a list")?;
    let mut allocations = vec![];
    for index in 0..ALLOCATIONS {
        let device_ids = vec![list.devices[index % DEVICES].id.clone()];
        let container_requests = vec![ContainerAllocateRequest { device_ids }];
        let begun = Instant::now();
        client
            .allocate(AllocateRequest { container_requests })
            .await?;
        allocations.push(milliseconds(begun));
    }
    let what = format!("Allocate beside {}", shape.name());
    latencies(results, &what, allocations, shape.goal("≤ 1"));
    Ok(())
}

/// A client for each of the plugin's sockets.
async fn clients(node: &Node) -> anyhow::Result<Vec<DevicePluginClient<Channel>>> {
    let mut clients = vec![];
    for entry in fs::read_dir(node.path("kubelet"))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name != "kubelet.sock") {
            let endpoint = Endpoint::from_shared(format!("unix://{}", path.display()))?;
            clients.push(DevicePluginClient::new(endpoint.connect().await?));
        }
    }
    ensure!(clients.len() == RESOURCES, "{} sockets", clients.len());
    Ok(clients)
}
