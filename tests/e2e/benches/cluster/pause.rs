//! From the annotation on a VM to the stop of its guest's virtual CPUs, and to
//! the phase that says so; and back.
//!
//! The guest's side is the shim's log, which has a line once qemu has confirmed
//! that the CPUs stand still or run, with the time that containerd gave it.

use anyhow::{Context as _, ensure};
use coracle_api::names::ANNOTATION_DESIRED;
use coracle_api::vm::Phase;
use coracle_benches::{CMDLINE, HELLO, STAY};
use coracle_e2e::{Cluster, Machine, Namespace};
use k8s_openapi::jiff::Timestamp;
use kube::api::LogParams;

use crate::guest::vm;
use crate::table::Row;

/// Seconds until the guest has changed its state, and until the phase has.
struct Took {
    guest: f64,
    phase: f64,
}

/// Pauses a VM and lets it go on, so many times.
pub(crate) async fn measure(
    cluster: &Cluster,
    namespace: &Namespace,
    times: usize,
) -> anyhow::Result<Vec<Row>> {
    let vm = vm("paused", &format!("{CMDLINE} {STAY}"));
    let vm = Machine::apply(cluster, namespace, &vm).await?;
    vm.runs(1).await?.says(HELLO).await?;
    let (mut pauses, mut resumptions) = (vec![], vec![]);
    for _ in 0..times {
        pauses.push(change(namespace, &vm, Phase::Paused).await?);
        resumptions.push(change(namespace, &vm, Phase::Running).await?);
    }
    vm.delete(&vm.pod(1)).await?;
    let guest = |all: &[Took]| all.iter().map(|took| took.guest).collect();
    let phase = |all: &[Took]| all.iter().map(|took| took.phase).collect();
    Ok(vec![
        Row::new("annotation Paused to the guest's stop, s", guest(&pauses)),
        Row::new("annotation Paused to phase Paused, s", phase(&pauses)),
        Row::new(
            "annotation Running to the guest's going on, s",
            guest(&resumptions),
        ),
        Row::new(
            "annotation Running to phase Running, s",
            phase(&resumptions),
        ),
    ])
}

async fn change(namespace: &Namespace, vm: &Machine, wanted: Phase) -> anyhow::Result<Took> {
    let start = Timestamp::now();
    vm.annotate(ANNOTATION_DESIRED, &format!("{wanted:?}"))
        .await?;
    vm.phase_is(wanted).await?;
    let phase = Timestamp::now();
    let parameters = LogParams {
        timestamps: true,
        ..LogParams::default()
    };
    let log = namespace.pods().logs(&vm.pod(1).name, &parameters).await?;
    let line = log
        .lines()
        .rfind(|line| line.contains("the VM's state changed"));
    let line = line.context("the shim says that the guest's state has changed")?;
    let (at, said) = line.split_once(' ').context("a time before the line")?;
    let state = format!("to=\"{}\"", format!("{wanted:?}").to_lowercase());
    ensure!(
        said.contains(&state),
        "phase {wanted:?}, and the guest: {said}"
    );
    let guest: Timestamp = at.parse()?;
    let after = |at: Timestamp| at.duration_since(start).as_secs_f64();
    ensure!(after(guest) > 0.0, "{line}: before {start}");
    Ok(Took {
        guest: after(guest),
        phase: after(phase),
    })
}
