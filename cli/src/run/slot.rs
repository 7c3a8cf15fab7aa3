//! The VM's place among the VMs of the state directory: taken under the state
//! lock, before anything is made.

use super::Options;
use super::plan::Plan;
use crate::containerd;
use crate::cri::Cri;
use crate::failure::{Classify, Failure};
use crate::interrupt::Interrupts;
use crate::progress::{Stages, say};
use crate::record::{self, Found, Owner, Record, RecordError, Slot, StateLock};
use crate::report::Report;
use crate::teardown::{self, Context};

/// Takes the VM's place, after what killed commands left is removed.
pub(super) async fn take(
    context: &Context<'_>,
    options: &Options,
    plan: &Plan,
    interrupts: &Interrupts,
    stages: &mut Stages,
) -> Result<Slot, Failure> {
    let work = async {
        let lock = interrupts
            .leave(record::lock(context.paths))
            .await?
            .host()?;
        for (vm, removed) in Box::pin(teardown::remove_lost(context, &lock))
            .await
            .host()?
        {
            removed.host()?;
            say(&format!("removed what a killed command left of {vm}"));
        }
        let others = without_ended(context, plan, &lock).await?;
        let holders = |use_: &record::ClaimUse| record::holders(&others, &plan.vm.namespace, use_);
        // Whatever is wrong with the manifest or a claim is said here, before
        // a device is attached; the pod itself is made from attached claims.
        let pod = plan.pod(&plan.manifests.claims, holders).config()?;
        let record = record(
            context,
            options,
            plan,
            pod.metadata.name.unwrap_or_default(),
        );
        Slot::create(context.paths, record, &lock).host()
    };
    stages
        .run("admission", "waiting for another coracle", work, |_| {
            "accepted".to_owned()
        })
        .await
}

/// The other VMs. One of the same name that has ended gives way.
async fn without_ended(
    context: &Context<'_>,
    plan: &Plan,
    lock: &StateLock,
) -> Result<Vec<Found>, Failure> {
    let mut others = record::all(context.paths).host()?;
    if let Some(place) = others.iter().position(|found| found.record.vm == plan.vm) {
        let found = others.remove(place);
        let how = match found.owner {
            Owner::Command => Some("in a terminal"),
            Owner::Detached if !has_ended(context, &found).await => Some("detached"),
            Owner::Detached | Owner::Lost => None,
        };
        let running = |how| Failure {
            code: 2,
            error: RecordError::Running {
                vm: plan.vm.to_string(),
                how,
            }
            .into(),
        };
        if let Some(how) = how {
            return Err(running(how));
        }
        let slot = found
            .take()
            .host()?
            .ok_or_else(|| running("in a terminal"))?;
        Box::pin(teardown::remove(context, slot, lock))
            .await
            .host()?;
    }
    Ok(others)
}

async fn has_ended(context: &Context<'_>, found: &Found) -> bool {
    let socket = found.record.containerd.clone();
    let socket = socket.unwrap_or_else(|| containerd::socket(context.paths));
    match &found.record.container {
        Some(container) => matches!(Cri::connect(&socket).exit(container).await, Ok(Some(_))),
        None => true,
    }
}

fn record(context: &Context<'_>, options: &Options, plan: &Plan, pod: String) -> Record {
    let dir = context.paths.pod(&plan.vm.namespace, &plan.vm.name);
    let spec = &plan.manifests.vm.spec;
    Record {
        vm: plan.vm.clone(),
        uid: plan.uid.clone(),
        detached: false,
        containerd: options.containerd.clone(),
        claims: plan.claims.clone(),
        volume_dir: dir.join("volumes"),
        disk_dir: context.paths.ephemeral(&plan.uid),
        volumes: Vec::new(),
        plugin: None,
        devices: Vec::new(),
        sandboxed: false,
        container: None,
        grace_seconds: u64::try_from(spec.termination_grace_period_seconds).unwrap_or(60),
        pod: None,
        report: Report {
            vm: plan.vm.clone(),
            pod,
            uid: plan.uid.clone(),
            image: plan.image.clone(),
            runtime: None,
            sandbox_id: None,
            pod_ip: None,
            container_id: None,
            devices: Vec::new(),
            disks: Vec::new(),
            stages: Vec::new(),
            ran_ms: None,
            end: None,
        },
    }
}
