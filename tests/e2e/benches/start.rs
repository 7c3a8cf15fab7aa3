//! `scripts/bench.sh cluster [PAIRS]`: from `kubectl apply` of a VM to the first
//! line of its guest's first process, beside a plain pod that runs the same
//! qemu with the same guest by hand. It judges nothing: the goal is printed
//! beside what was measured.
//!
//! Both begin as kubectl is called, and end at the time that containerd gave
//! the line. Which of the two goes first changes from pair to pair.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};
use coracle_e2e::{Cluster, Machine, Namespace, Node, plain_pod, until, vm_object};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::{Api, Resource as _};
use serde_json::{Value, json};

/// What the guest's first process says.
const HELLO: &str = "coracle-bench: userspace";
/// Quiet, and without what only costs time under emulation.
const CMDLINE: &str =
    "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable mitigations=off nokaslr";
const PAIRS: usize = 5;
const CLAIM: &str = "kernel";
/// What the controller gives the VM's pod.
const IMAGE: &str = concat!("coracle.dev/vm:", env!("CARGO_PKG_VERSION"));
const QEMU: &str = "/usr/bin/qemu-system-x86_64";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let pairs = numbers.next().unwrap_or(PAIRS);
    let guest = std::env::var("CORACLE_BENCH_GUEST").context("run scripts/bench.sh cluster")?;
    let cluster = Cluster::get().await?.context("a cluster")?;
    let node = cluster.node_with_controller().await?.context("a node")?;
    let namespace = Namespace::new(&cluster).await?;
    make_claim(&node, &namespace, Path::new(&guest)).await?;

    // Not counted: they warm the caches.
    of_vm(&cluster, &namespace, 0).await?;
    of_pod(&cluster, &namespace, 0).await?;
    let (mut ours, mut plain) = (vec![], vec![]);
    for pair in 1..=pairs {
        if pair % 2 == 0 {
            ours.push(of_vm(&cluster, &namespace, pair).await?);
            plain.push(of_pod(&cluster, &namespace, pair).await?);
        } else {
            plain.push(of_pod(&cluster, &namespace, pair).await?);
            ours.push(of_vm(&cluster, &namespace, pair).await?);
        }
    }
    let ratios = ours.iter().zip(&plain).map(|(ours, plain)| ours / plain);
    let ratios: Vec<f64> = ratios.collect();
    let mut out = String::new();
    let mut row = |what: &str, values: &[f64], goal: &str| {
        let each: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
        let median = median(values);
        writeln!(out, "{what:46} {median:6.2}  {goal:7} {}", each.join(" "))
    };
    row("kubectl apply of a VM to userspace, s", &ours, "")?;
    row("kubectl apply of a plain pod with qemu, s", &plain, "")?;
    row("ratio, of each pair", &ratios, "≤ 1.15")?;
    std::io::Write::write_all(&mut std::io::stdout(), out.as_bytes())?;
    Ok(())
}

/// A volume with the guest's kernel, and a claim bound to it.
async fn make_claim(node: &Node, namespace: &Namespace, guest: &Path) -> anyhow::Result<()> {
    let dir = node.dir().join("kernel");
    std::fs::create_dir_all(&dir)?;
    for file in ["vmlinuz", "initrd"] {
        let from = guest.join(file);
        std::fs::copy(&from, dir.join(file)).with_context(|| from.display().to_string())?;
    }
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": namespace.name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"namespace": namespace.name, "name": CLAIM},
            "local": {"path": dir},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name()]},
            ]}]}},
        },
    }))?;
    let volumes: Api<PersistentVolume> = Api::all(node.api().into_client());
    volumes.create(&PostParams::default(), &volume).await?;
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": CLAIM},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeName": namespace.name,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }))?;
    namespace
        .claims()
        .create(&PostParams::default(), &claim)
        .await?;
    until("the claim is bound", async || {
        let claim = namespace.claims().get(CLAIM).await?;
        let phase = claim.status.and_then(|status| status.phase);
        Ok((phase.as_deref() == Some("Bound")).then_some(()))
    })
    .await
}

fn vm(name: &str, cmdline: &str) -> Value {
    let fields = json!({
        "memory": "256Mi",
        "runPolicy": "Once",
        "terminationGracePeriodSeconds": 10,
        "disks": [],
        "firmware": {"kernel": {
            "claim": {"name": CLAIM},
            "path": "vmlinuz", "initrd": "initrd", "cmdline": cmdline,
        }},
    });
    vm_object(name, fields)
}

async fn of_vm(cluster: &Cluster, namespace: &Namespace, number: usize) -> anyhow::Result<f64> {
    let name = format!("vm-{number}");
    let vm = vm(&name, CMDLINE);
    let start = Timestamp::now();
    let vm = Machine::apply(cluster, namespace, &vm).await?;
    let took = line_after(namespace, &format!("{name}-1"), start).await?;
    let pod = vm.pod(1);
    vm.delete(&pod).await?;
    Ok(took)
}

async fn of_pod(cluster: &Cluster, namespace: &Namespace, number: usize) -> anyhow::Result<f64> {
    let name = format!("plain-{number}");
    let command = [
        QEMU,
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "q35",
        "-accel",
        "tcg,thread=multi,tb-size=128",
        "-cpu",
        "max",
        "-smp",
        "1",
        "-m",
        "256",
        "-kernel",
        "/kernel/vmlinuz",
        "-initrd",
        "/kernel/initrd",
        "-append",
        CMDLINE,
        "-serial",
        "stdio",
        "-netdev",
        "user,id=net0",
        "-device",
        "virtio-net-pci,netdev=net0,romfile=",
    ];
    let limits = json!({"memory": "700Mi"});
    let mut pod = serde_json::to_value(plain_pod(&name, IMAGE, &command, limits))?;
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!(Pod::kind(&()));
    pod["metadata"]["namespace"] = json!(namespace.name);
    pod["spec"]["volumes"] =
        json!([{"name": "kernel", "persistentVolumeClaim": {"claimName": CLAIM}}]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "kernel", "mountPath": "/kernel", "readOnly": true}]);
    let start = Timestamp::now();
    cluster.kubectl.apply(&pod).await?;
    let took = line_after(namespace, &name, start).await?;
    namespace
        .pods()
        .delete(&name, &DeleteParams::default())
        .await?;
    until("the plain pod is gone", async || {
        Ok(namespace
            .pods()
            .get_opt(&name)
            .await?
            .is_none()
            .then_some(()))
    })
    .await?;
    Ok(took)
}

/// From `start` until the guest in this pod said its line, in seconds.
async fn line_after(namespace: &Namespace, pod: &str, start: Timestamp) -> anyhow::Result<f64> {
    let parameters = LogParams {
        timestamps: true,
        ..LogParams::default()
    };
    let line = until("the guest has come to its first process", async || {
        // No log is there before the container has started.
        let log = namespace
            .pods()
            .logs(pod, &parameters)
            .await
            .unwrap_or_default();
        Ok(log
            .lines()
            .find(|line| line.contains(HELLO))
            .map(str::to_owned))
    });
    let line = line.await?;
    let (at, _) = line.split_once(' ').context("a time before the line")?;
    let took = at.parse::<Timestamp>()?.duration_since(start).as_secs_f64();
    ensure!(took > 0.0, "{line}: before {start}");
    Ok(took)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}
