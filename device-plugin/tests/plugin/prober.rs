//! Plugin and prober as they run in a cluster: the plugin is root without the
//! right to open the device, the prober is another user who was given it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coracle_kubelet::{Device, Kubelet, Options};
use coracle_proto::deviceplugin::{DeviceSpec, Mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::kit::{LIMIT, Node, all_healthy, none_healthy};

const PLACE: &str = "coracle.dev/kvm-probe";
const ROOT_WITH_MKNOD: [&str; 4] = [
    "--groups=107",
    "--bounding-set=-all,+mknod",
    "--inh-caps=-all,+mknod",
    "--nnp",
];
const PROBER: [&str; 6] = [
    "--reuid=107",
    "--regid=107",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--nnp",
];

/// A node whose device the plugin may not open, and the program where every
/// user can run it.
struct Cluster {
    node: Node,
    program: PathBuf,
}

/// A process of the test; killed with it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("is there");
    }

    /// Ends it in order.
    fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.0.wait().expect("ended");
        assert!(status.success(), "{status}");
    }
}

impl Cluster {
    fn new() -> Option<Self> {
        let node = Node::new()?;
        if Command::new("setpriv").arg("--version").output().is_err() {
            eprintln!("skipped: no setpriv (package util-linux)");
            return None;
        }
        let program = node.open_dir().join("coracle-device-plugin");
        fs::copy(env!("CARGO_BIN_EXE_coracle-device-plugin"), &program).expect("copies");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("chmods");
        node.plug_in_closed();
        Some(Self { node, program })
    }

    async fn kubelet(&self) -> Kubelet {
        self.node.kubelet(Options::default()).await
    }

    fn start(&self, who: &[&str], arguments: &mut Command) -> Process {
        let child = arguments
            .get_args()
            .fold(
                Command::new("setpriv")
                    .args(who)
                    .arg("--")
                    .arg(&self.program),
                |command, argument| command.arg(argument),
            )
            .stdin(Stdio::null())
            .stderr(self.log())
            .spawn()
            .expect("starts");
        Process(child)
    }

    fn log_path(&self) -> PathBuf {
        self.program.with_extension("log")
    }

    fn log(&self) -> File {
        File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("opens the log")
    }

    fn plugin(&self, grace: &str) -> Process {
        let mut arguments = Command::new("");
        arguments
            .args(["run", "--kvm-count=3", "--kvm-probe=open"])
            .arg(format!("--prober-grace={grace}"))
            .arg("--kubelet-dir")
            .arg(self.node.kubelet_dir())
            .arg("--node-dir")
            .arg(self.node.node_dir())
            .arg("--kvm-device")
            .arg(self.node.device())
            .arg("--probe-dir")
            .arg(self.node.probe_dir());
        self.start(&ROOT_WITH_MKNOD, &mut arguments)
    }

    fn prober(&self, device: &Path) -> Process {
        let mut arguments = Command::new("");
        arguments
            .arg("prober")
            .arg("--socket")
            .arg(self.socket())
            .arg("--kvm-device")
            .arg(device);
        self.start(&PROBER, &mut arguments)
    }

    /// The device that containers are given.
    fn given(&self) -> PathBuf {
        self.node.node_dir().join("kvm")
    }

    fn socket(&self) -> PathBuf {
        self.node.probe_dir().join("prober.sock")
    }

    /// Why the plugin does not hand the device out.
    async fn reason(&self) -> String {
        crate::device::refusal(&self.node).await
    }
}

async fn place(kubelet: &Kubelet, healthy: bool) {
    let there = |devices: &[Device]| devices.len() == 1 && devices[0].healthy == healthy;
    kubelet
        .wait_for(PLACE, there, LIMIT)
        .await
        .expect("the place is as expected");
}

#[tokio::test]
async fn the_prober_gets_the_device_as_a_vm_does_and_makes_it_healthy() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let kubelet = cluster.kubelet().await;
    let mut plugin = cluster.plugin("3600");
    place(&kubelet, true).await;
    none_healthy(&kubelet).await;
    assert!(
        cluster
            .reason()
            .await
            .contains("no prober has reported yet")
    );

    let granted = kubelet.allocate(PLACE, 1).await.expect("a place").response;
    assert_eq!(
        granted.devices,
        [DeviceSpec {
            container_path: "/dev/kvm".into(),
            host_path: cluster.given().display().to_string(),
            permissions: "rw".into(),
        }]
    );
    assert_eq!(
        granted.mounts,
        [Mount {
            container_path: "/run/coracle/probe".into(),
            host_path: cluster.node.probe_dir().display().to_string(),
            read_only: true,
        }]
    );
    let prober = cluster.prober(&cluster.given());
    all_healthy(&kubelet).await;

    // A new plugin hears from the prober that is there.
    plugin.signal(Signal::SIGKILL);
    plugin.0.wait().expect("ended");
    none_healthy(&kubelet).await;
    let plugin = cluster.plugin("3600");
    all_healthy(&kubelet).await;
    prober.stop();
    plugin.stop();
    assert!(!cluster.socket().exists());
}

#[tokio::test]
async fn the_last_report_counts_until_another_comes() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let kubelet = cluster.kubelet().await;
    let plugin = cluster.plugin("0");
    // Nobody reports, and nobody is waited for.
    all_healthy(&kubelet).await;
    let log = fs::read_to_string(cluster.log_path()).expect("a log");
    assert!(log.contains("no guest has been run on it"), "{log}");

    let bad = cluster.prober(Path::new("/dev/null"));
    none_healthy(&kubelet).await;
    let reason = cluster.reason().await;
    assert!(
        reason.contains("/dev/null does not speak the KVM"),
        "{reason}"
    );
    bad.stop();
    let good = cluster.prober(&cluster.given());
    all_healthy(&kubelet).await;
    good.stop();
    plugin.stop();
}

#[tokio::test]
async fn a_device_that_vanishes_takes_the_prober_s_place_with_it() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let kubelet = cluster.kubelet().await;
    let plugin = cluster.plugin("3600");
    let prober = cluster.prober(&cluster.given());
    all_healthy(&kubelet).await;
    cluster.node.unplug();
    none_healthy(&kubelet).await;
    place(&kubelet, false).await;
    let reason = cluster.reason().await;
    assert!(reason.contains("is not there"), "{reason}");
    cluster.node.plug_in_closed();
    all_healthy(&kubelet).await;
    place(&kubelet, true).await;
    prober.stop();
    plugin.stop();
}

/// A prober of the test's own making.
struct Liar(UnixStream);

impl Liar {
    async fn connect(cluster: &Cluster) -> Self {
        loop {
            match UnixStream::connect(cluster.socket()).await {
                Ok(stream) => return Self(stream),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// The number of the question.
    async fn asked(&mut self) -> u64 {
        let mut line = vec![];
        while line.last() != Some(&b'\n') {
            line.push(self.0.read_u8().await.expect("a question"));
        }
        let question: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!(question["level"], "open");
        question["id"].as_u64().expect("a number")
    }

    async fn say(&mut self, line: &str) {
        self.0.write_all(line.as_bytes()).await.expect("writes");
    }

    /// Waits until the plugin hangs up.
    async fn ends(mut self) {
        let mut rest = vec![];
        let ended = tokio::time::timeout(LIMIT, self.0.read_to_end(&mut rest)).await;
        match ended.expect("the plugin hangs up") {
            Ok(_) => {}
            // It had not read all that was said.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }
}

fn passed(id: u64, level: &str) -> String {
    format!("{{\"id\":{id},\"outcome\":{{\"passed\":{{\"level\":\"{level}\"}}}}}}\n")
}

#[tokio::test]
async fn who_does_not_answer_to_the_point_is_not_believed() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let kubelet = cluster.kubelet().await;
    let plugin = cluster.plugin("3600");
    none_healthy(&kubelet).await;
    let lies: [fn(u64) -> String; 5] = [
        |_| "healthy!\n".to_owned(),
        |id| passed(id + 1, "open"),
        |id| passed(id, "kernel"),
        |id| passed(id, "open").repeat(2),
        |_| "x".repeat(100_000),
    ];
    for lie in lies {
        let mut liar = Liar::connect(&cluster).await;
        let id = liar.asked().await;
        let said = lie(id);
        // The plugin may hang up in the middle of it.
        let _ = liar.0.write_all(said.as_bytes()).await;
        liar.ends().await;
        none_healthy(&kubelet).await;
    }
    let mut liar = Liar::connect(&cluster).await;
    let id = liar.asked().await;
    liar.say(&passed(id, "open")).await;
    all_healthy(&kubelet).await;
    // Speaks unasked: it goes, what it reported stands.
    liar.say(&passed(id, "open")).await;
    liar.ends().await;
    all_healthy(&kubelet).await;

    let mut liar = Liar::connect(&cluster).await;
    let id = liar.asked().await;
    liar.say(&format!(
        "{{\"id\":{id},\"outcome\":{{\"failed\":{{\"reason\":\"slow\\n\\u001b[31m{}\"}}}}}}\n",
        "x".repeat(3000)
    ))
    .await;
    none_healthy(&kubelet).await;
    let reason = cluster.reason().await;
    assert!(
        reason.contains("slow  [31mxxx") && reason.len() < 1000,
        "{reason}"
    );
    plugin.stop();
}

#[tokio::test]
async fn the_socket_is_for_the_prober_alone_and_only_to_connect() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let kubelet = cluster.kubelet().await;
    let plugin = cluster.plugin("3600");
    place(&kubelet, true).await;
    let shown = |path: &Path| {
        let there = fs::symlink_metadata(path).expect("is there");
        (there.uid(), there.gid(), there.mode() & 0o7777)
    };
    assert_eq!(shown(&cluster.node.probe_dir()), (0, 107, 0o750));
    assert_eq!(shown(&cluster.socket()), (0, 107, 0o660));
    for forbidden in [["touch", "x"], ["rm", "prober.sock"]] {
        let done = Command::new("setpriv")
            .args(PROBER)
            .args(["--", forbidden[0], forbidden[1]])
            .current_dir(cluster.node.probe_dir())
            .output()
            .expect("runs");
        assert!(!done.status.success(), "{forbidden:?}");
    }
    // It is made again when someone removes it, and the prober finds it.
    let prober = cluster.prober(&cluster.given());
    all_healthy(&kubelet).await;
    fs::remove_file(cluster.socket()).expect("removes");
    let back = async {
        while !cluster.socket().exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), back)
        .await
        .expect("it is made again");
    prober.stop();
    plugin.stop();
}
