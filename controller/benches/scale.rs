//! `cargo bench -p coracle-controller --bench scale -- 1000 10000`: what the
//! controller needs for so many VMs, each with a pod, on a real API server.
//!
//! There is no kubelet: this program plays the nodes by binding each pod and
//! saying that it runs. The programs come from `KUBE_BIN`. It judges nothing:
//! goals are printed beside what was measured.

#[path = "../tests/cluster/fixture.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod fixture;
#[path = "../tests/cluster/program.rs"]
mod program;
#[path = "../tests/cluster/server.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod server;

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use coracle_api::vm::VirtualMachine;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use fixture::{Fixture, object_of};
use program::Program;
use server::{Server, Who};

/// How many requests this program has under way.
const WIDTH: usize = 24;
/// How long the controller is watched while nothing happens.
const IDLE: Duration = Duration::from_secs(20);
/// A state that takes longer than this does not come.
const PATIENCE: Duration = Duration::from_secs(1800);

fn main() -> anyhow::Result<()> {
    let counts: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let runtime = tokio::runtime::Runtime::new()?;
    for count in counts {
        let server = match Server::start() {
            Ok(server) => &*Box::leak(Box::new(server)),
            Err(why) => {
                writeln!(std::io::stderr(), "skipped: the controller's scale: {why}")?;
                return Ok(());
            }
        };
        runtime.block_on(measure(server, count))?;
        server.stop();
    }
    Ok(())
}

async fn measure(server: &'static Server, count: usize) -> anyhow::Result<()> {
    fixture::prepare(server).await;
    let fixture = Fixture::on(server).await;
    let nodes = tokio::spawn(play_nodes(
        server.client(Who::Admin),
        fixture.namespace.clone(),
    ));
    let mut first = Program::start(&server.kubeconfig());
    let begun = Instant::now();
    create(&fixture, count).await?;
    let created = begun.elapsed();
    settle(&first, count).await?;
    let settled = begun.elapsed();
    report(count, "VMs created in, s", created.as_secs_f64(), "")?;
    report(
        count,
        "all of them running after, s",
        settled.as_secs_f64(),
        "",
    )?;
    let text = first.get("/metrics").await;
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        let what = format!("reconcile {name}, ms, at most");
        report(count, &what, quantile(&text, part) * 1000.0, "")?;
    }
    idle(&first, count, "").await?;
    first.terminate().await;

    let begun = Instant::now();
    let mut second = Program::start(&server.kubeconfig());
    settle(&second, count).await?;
    report(
        count,
        "after a restart all are known in, s",
        begun.elapsed().as_secs_f64(),
        "",
    )?;
    idle(&second, count, "after a restart: ").await?;
    second.terminate().await;
    nodes.abort();
    Ok(())
}

/// A line of the table.
fn report(count: usize, what: &str, value: f64, goal: &str) -> anyhow::Result<()> {
    let what = format!("controller, {count} VMs: {what}");
    writeln!(std::io::stdout(), "{what:<64} {value:>8.1} {goal}")?;
    Ok(())
}

/// Memory and CPU time of a controller that has nothing to do.
async fn idle(program: &Program, count: usize, when: &str) -> anyhow::Result<()> {
    let pid = program.pid();
    let before = cpu_seconds(pid)?;
    tokio::time::sleep(IDLE).await;
    let used = (cpu_seconds(pid)? - before) / IDLE.as_secs_f64() * 100.0;
    let goal = if count >= 10_000 { "goal: 64" } else { "" };
    report(
        count,
        &format!("{when}resident memory, MiB"),
        status_mib(pid, "VmRSS")?,
        goal,
    )?;
    report(
        count,
        &format!("{when}of it private, MiB"),
        status_mib(pid, "RssAnon")?,
        "",
    )?;
    report(
        count,
        &format!("{when}its peak, MiB"),
        status_mib(pid, "VmHWM")?,
        "",
    )?;
    report(count, &format!("{when}idle CPU, % of one"), used, "")
}

/// VMs as people have them: a disk in a claim, a seed, a network card.
async fn create(fixture: &Fixture, count: usize) -> anyhow::Result<()> {
    let vms = fixture.vms();
    let mut tasks = JoinSet::new();
    for number in 0..count {
        while tasks.len() >= WIDTH {
            tasks.join_next().await.context("a task")???;
        }
        let vms = vms.clone();
        tasks.spawn(async move {
            let vm: VirtualMachine = object_of(json!({
                "apiVersion": "coracle.dev/v1alpha1", "kind": "VirtualMachine",
                "metadata": {"name": format!("vm-{number}")},
                "spec": {
                    "accelerator": "Emulation", "memory": "1Gi",
                    "disks": [
                        {"name": "root", "bootOrder": 1, "claimTemplate": {"size": "10Gi"}},
                        {"name": "seed", "cloudInit": {"userData": "#cloud-config\npassword: x\n"}}
                    ],
                    "interfaces": [{"name": "default", "binding": "Slirp"}]
                }
            }));
            let created = vms.create(&PostParams::default(), &vm).await;
            created.map(drop).context("creating a VM")
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Gives every pod a node, and says that its guest runs.
async fn play_nodes(client: Client, namespace: String) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let stream = watcher(pods.clone(), watcher::Config::default()).default_backoff();
    let mut stream = std::pin::pin!(stream.applied_objects());
    let mut tasks = JoinSet::new();
    while let Some(pod) = stream.next().await {
        let Ok(pod) = pod else { continue };
        if pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.is_some())
        {
            continue;
        }
        while tasks.len() >= WIDTH {
            tasks.join_next().await.context("a task")???;
        }
        let pods = pods.clone();
        tasks.spawn(async move { run(&pods, &pod.name_any()).await });
    }
    Ok(())
}

async fn run(pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node1"}
    });
    let bound: Result<Value, _> = pods
        .create_subresource("binding", name, &PostParams::default(), &binding)
        .await;
    bound.context("binding a pod")?;
    let time = "2026-01-01T10:00:00Z";
    let status = json!({"status": {
        "phase": "Running", "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}],
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": time},
            {"type": "Ready", "status": "True", "lastTransitionTime": time}
        ],
        "containerStatuses": [{
            "name": "vm", "ready": true, "started": true, "restartCount": 0, "image": "i",
            "imageID": "i", "containerID": "containerd://1", "state": {"running": {"startedAt": time}}
        }]
    }});
    let params = PatchParams::default();
    let patched = pods
        .patch_status(name, &params, &Patch::Merge(&status))
        .await;
    patched.map(drop).context("running a pod")
}

/// Waits until the controller counts so many running VMs.
async fn settle(program: &Program, count: usize) -> anyhow::Result<()> {
    let line = format!("coracle_vms{{phase=\"Running\"}} {count}");
    let all = async {
        while !program
            .get("/metrics")
            .await
            .lines()
            .any(|found| found == line)
        {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, all).await;
    waited.context("the VMs do not all run")
}

/// The upper bound of the bucket in which a share of all looks is.
fn quantile(metrics: &str, part: f64) -> f64 {
    let name = "coracle_reconcile_duration_seconds_bucket{";
    let buckets: Vec<(f64, f64)> = metrics
        .lines()
        .filter(|line| line.starts_with(name) && line.contains("result=\"ok\""))
        .filter_map(|line| {
            let bound = line.split("le=\"").nth(1)?.split('"').next()?;
            let bound = bound.parse().unwrap_or(f64::INFINITY);
            Some((bound, line.rsplit(' ').next()?.parse().ok()?))
        })
        .collect();
    let total = buckets.last().map_or(0.0, |(_, count)| *count);
    let found = buckets.iter().find(|(_, count)| *count >= part * total);
    found.map_or(f64::NAN, |(bound, _)| *bound)
}

fn status_mib(pid: u32, key: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u32 = number.context("memory in the status")?.trim().parse()?;
    Ok(f64::from(kib) / 1024.0)
}

/// Seconds of CPU time, at the kernel's 100 ticks a second.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("a name in parentheses")?;
    let ticks = rest.split_ascii_whitespace().skip(11).take(2);
    let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
    Ok(f64::from(ticks) / 100.0)
}
