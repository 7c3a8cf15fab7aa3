//! The program itself.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use coracle_device_plugin::Inspection;
use coracle_kubelet::{Faults, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::device::refusal;
use crate::kit::{Node, RESOURCE, all_healthy, none_healthy};
use crate::metrics::listening;

const PROGRAM: &str = env!("CARGO_BIN_EXE_coracle-device-plugin");

/// The running program; killed with the test.
pub(crate) struct Program(pub(crate) Child);

impl Program {
    pub(crate) fn start(node: &Node) -> Self {
        let spawned = Self::command(node).spawn();
        Self(spawned.expect("starts"))
    }

    /// One whose log can be read; with further arguments.
    pub(crate) fn told(node: &Node, arguments: &[&str]) -> (Self, Lines<BufReader<ChildStderr>>) {
        let mut command = Self::command(node);
        command.args(arguments).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let log = child.stderr.take().expect("piped");
        (Self(child), BufReader::new(log).lines())
    }

    fn command(node: &Node) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg("--kubelet-dir")
            .arg(node.kubelet_dir())
            .arg("--node-dir")
            .arg(node.node_dir())
            .arg("--kvm-device")
            .arg(node.device())
            .args([
                "--kvm-count",
                "3",
                "--kvm-probe",
                "run",
                "--log-format",
                "json",
                "--tun-count=0",
                "--vhost-net-count=0",
                "--vhost-vsock-count=0",
            ])
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("is there");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn once(words: &[&str]) -> Output {
    Command::new(PROGRAM).args(words).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[tokio::test]
async fn it_survives_being_killed_and_ends_in_order_on_sigterm() {
    let Some(node) = Node::new() else { return };
    let kubelet = node.kubelet(Options::default()).await;
    let mut program = Program::start(&node);
    all_healthy(&kubelet).await;
    let held = kubelet.allocate(RESOURCE, 2).await.expect("allocates");
    program.signal(Signal::SIGKILL);
    none_healthy(&kubelet).await;
    program.0.wait().expect("ended");
    assert!(
        node.plugin_socket().exists(),
        "a killed plugin leaves its socket"
    );

    let mut program = Program::start(&node);
    all_healthy(&kubelet).await;
    let other = kubelet
        .allocate(RESOURCE, 1)
        .await
        .expect("the slots are the same");
    assert!(
        !held.ids.contains(&other.ids[0]),
        "and what is held stays held"
    );
    program.signal(Signal::SIGTERM);
    none_healthy(&kubelet).await;
    let status = program.0.wait().expect("ended");
    assert!(status.success(), "{status}");
    assert!(!node.plugin_socket().exists());
}

#[tokio::test]
async fn it_says_that_a_kubelet_before_1_26_is_too_old() {
    let Some(node) = Node::new() else { return };
    let faults = Faults {
        path_as_authority: true,
        ..Faults::default()
    };
    let kubelet = node.faulty_kubelet(faults).await;
    let (_program, mut log) = Program::told(&node, &[]);
    let said = tokio::task::spawn_blocking(move || {
        log.find_map(|line| line.ok().filter(|line| line.contains("not registered")))
    });
    let said = said.await.expect("no panic").expect("a line");
    assert!(said.contains("needs Kubernetes 1.26 or newer"), "{said}");
    // The node was upgraded meanwhile, and nobody reads the log any more.
    kubelet.stop().await;
    let kubelet = node.kubelet(Options::default()).await;
    all_healthy(&kubelet).await;
}

#[tokio::test]
async fn each_change_of_a_reason_is_logged_once() {
    let Some(node) = Node::new() else { return };
    let (_program, _, log) = listening(&node, &[]);
    let kubelet = node.kubelet(Options::default()).await;
    all_healthy(&kubelet).await;
    node.unplug();
    none_healthy(&kubelet).await;
    let reason = || async { refusal(&node).await };
    while !reason().await.contains("is not there") {
        tokio::task::yield_now().await;
    }
    // To the kubelet it is unhealthy as before.
    node.plug_in_null();
    while reason().await.contains("is not there") {
        tokio::task::yield_now().await;
    }
    node.plug_in();
    all_healthy(&kubelet).await;
    for (words, times) in [
        ("\"message\":\"unhealthy\"", 1),
        ("\"message\":\"unhealthy for another reason\"", 1),
        ("\"message\":\"healthy\"", 2),
    ] {
        assert_eq!(log.count(words), times, "{words}");
    }
    kubelet.stop().await;
}

/// The resources of an inspection.
fn names(found: &serde_json::Value) -> Vec<&str> {
    let resources = found["resources"].as_array().expect("a list").iter();
    resources
        .map(|resource| resource["resource"].as_str().expect("a name"))
        .collect()
}

#[tokio::test]
async fn inspect_says_what_would_be_advertised_and_what_is_missing() {
    let Some(node) = Node::new() else { return };
    let path = |path: std::path::PathBuf| path.display().to_string();
    let (kubelet_dir, node_dir) = (path(node.kubelet_dir()), path(node.node_dir()));
    let device = path(node.device());
    let words = [
        "inspect",
        "--json",
        "--kubelet-dir",
        &kubelet_dir,
        "--node-dir",
        &node_dir,
        "--kvm-device",
        &device,
        "--kvm-probe",
        "open",
        "--tun-count=7",
        "--vhost-net-count=0",
        "--vhost-vsock-count=0",
    ];
    let look = || -> serde_json::Value {
        let output = once(&words);
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let found = look();
    assert_eq!(
        names(&found),
        [RESOURCE, "coracle.dev/tun"],
        "0 switches off"
    );
    let kvm = &found["resources"][0];
    assert_eq!(
        (&kvm["capacity"], &kvm["allocatable"]),
        (&1000.into(), &1000.into())
    );
    assert_eq!(found["resources"][1]["capacity"], 7);
    assert_eq!(found["kubeletPresent"], false);
    let given = &kvm["devices"][0]["nodes"][0];
    assert_eq!(given["ready"], false, "looking makes nothing");
    let missing = found["missing"][0].as_str().expect("a reason");
    assert!(missing.contains("--kubelet-dir"), "{missing}");

    let kubelet = node.kubelet(Options::default()).await;
    assert_eq!(look()["missing"], serde_json::json!([]));
    node.unplug();
    let kvm = &look()["resources"][0];
    assert_eq!(kvm["allocatable"], 0);
    let missing = kvm["missing"][0].as_str().expect("a reason");
    assert!(missing.contains("is not there"), "{missing}");
    kubelet.stop().await;

    let human = once(
        &words
            .iter()
            .copied()
            .filter(|word| *word != "--json")
            .collect::<Vec<_>>(),
    );
    let human = text(&human.stdout);
    assert!(human.contains("allocatable  0 of 1000"), "{human}");
    assert!(human.contains("\nmissing      "), "{human}");
}

#[test]
fn probe_says_what_it_found_and_exits_accordingly() {
    let absent = once(&["probe", "--kvm-device", "/nonexistent/kvm"]);
    assert_eq!(absent.status.code(), Some(1));
    let said = text(&absent.stderr);
    assert!(said.contains("/nonexistent/kvm is not there"), "{said}");
    let Some(node) = Node::new() else { return };
    let device = node.device().display().to_string();
    let open = once(&["probe", "--kvm-device", &device, "--kvm-probe", "open"]);
    assert!(open.status.success());
    assert!(text(&open.stdout).contains("passes the probe \"open\""));
}

/// The type is public so that `coracle` can show it.
#[test]
fn an_inspection_can_be_shown() {
    fn shown<T: std::fmt::Display + serde::Serialize>() {}
    shown::<Inspection>();
}
