//! From `kubectl apply` of a VM to the first line of its guest's first process,
//! beside a plain pod that runs the same qemu with the same guest by hand.
//!
//! Both begin as kubectl is called, and end at the time that containerd gave
//! the line. Which of the two goes first changes from pair to pair.

use anyhow::{Context, ensure};
use coracle_benches::{CMDLINE, HELLO};
use coracle_e2e::{Cluster, Machine, Namespace, plain_pod, until};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use kube::api::{DeleteParams, LogParams};
use serde_json::json;

use crate::guest::{CLAIM, vm};
use crate::table::Row;

/// What the controller gives the VM's pod.
const IMAGE: &str = concat!("coracle.dev/vm:", env!("CARGO_PKG_VERSION"));
const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// Starts both, so many times.
pub(crate) async fn measure(
    cluster: &Cluster,
    namespace: &Namespace,
    pairs: usize,
) -> anyhow::Result<Vec<Row>> {
    // Not counted: they warm the caches.
    of_vm(cluster, namespace, 0).await?;
    of_pod(cluster, namespace, 0).await?;
    let (mut ours, mut plain) = (vec![], vec![]);
    for pair in 1..=pairs {
        if pair % 2 == 0 {
            ours.push(of_vm(cluster, namespace, pair).await?);
            plain.push(of_pod(cluster, namespace, pair).await?);
        } else {
            plain.push(of_pod(cluster, namespace, pair).await?);
            ours.push(of_vm(cluster, namespace, pair).await?);
        }
    }
    let ratios = ours.iter().zip(&plain).map(|(ours, plain)| ours / plain);
    let ratios: Vec<f64> = ratios.collect();
    Ok(vec![
        Row::new("kubectl apply of a VM to userspace, s", ours),
        Row::new("kubectl apply of a plain pod with qemu, s", plain),
        Row::new("ratio, of each pair", ratios).goal("≤ 1.15"),
    ])
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
