//! Looking, before anything is decided.
//!
//! [`observe`] reads what the watches have brought, without a request, and is
//! enough for everything but one thing: a cache that lags may not know of a
//! pod yet, and a second pod would be a second writer. So before a pod is
//! created, [`confirm`] asks the API server for the VM and for the pod that
//! the VM's status names, and the decision is made again.

use std::sync::Arc;

use coracle_api::vm::VirtualMachine;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::context::Context;
use super::decide::Observation;
use super::facts::PodFacts;
use super::index::{Owner, owner};
use crate::plan::Observed;

/// What the caches know of a VM.
#[must_use]
pub fn observe(ctx: &Context, vm: Arc<VirtualMachine>, now: Timestamp) -> Observation {
    let namespace = vm.namespace().unwrap_or_default();
    let owner = owner_of(&vm);
    let claims = claim_names(&vm);
    // Told before it is read: what changes from here on brings the VM back.
    let names = claims.iter().map(String::as_str);
    ctx.users.set(&namespace, &owner.vm, names);
    let mut observed = Observed::default();
    for claim in claims {
        let holders = ctx.pods.holders(&namespace, &claim, &owner, now);
        if let Some(found) = ctx.claims.get(&namespace, &claim) {
            let storage = ctx.storage.behind(&found);
            observed.storage.insert(claim.clone(), storage);
            observed.claims.insert(claim.clone(), found);
        }
        observed.holders.insert(claim, holders);
    }
    Observation {
        pods: ctx.pods.of(&namespace, &owner, now),
        vm,
        observed,
    }
}

/// The same, with what must not be stale asked of the API server: the VM, and
/// the pod its status names. `None` when the VM is no more.
///
/// # Errors
/// What the API server answers.
pub async fn confirm(
    ctx: &Context,
    seen: Observation,
    now: Timestamp,
) -> Result<Option<Observation>, kube::Error> {
    let namespace = seen.vm.namespace().unwrap_or_default();
    let name = seen.vm.name_any();
    let Some(vm) = ctx.vms_in(&namespace).get_opt(&name).await? else {
        return Ok(None);
    };
    if vm.metadata.uid != seen.vm.metadata.uid {
        return Ok(None);
    }
    let mut fresh = observe(ctx, Arc::new(vm), now);
    let status = fresh.vm.status.as_ref();
    if let Some(incarnation) = status.and_then(|status| status.incarnation) {
        let pod = format!("{name}-{incarnation}");
        fresh.pods.retain(|known| known.name != pod);
        let found = ctx.pods_in(&namespace).get_opt(&pod).await?;
        let ours = found.filter(|pod| owner(pod).as_ref() == Some(&owner_of(&fresh.vm)));
        let facts = ours.and_then(|pod| PodFacts::of(&pod, &name));
        fresh.pods.extend(facts.map(Arc::new));
    }
    Ok(Some(fresh))
}

/// The VM as the owner of its pods.
#[must_use]
pub fn owner_of(vm: &VirtualMachine) -> Owner {
    Owner {
        vm: vm.name_any(),
        uid: vm.metadata.uid.clone().unwrap_or_default(),
    }
}

/// The claims that a VM names.
fn claim_names(vm: &VirtualMachine) -> Vec<String> {
    let name = vm.name_any();
    let disks = vm.spec.disks.iter();
    let sources = disks.clone();
    let firmware = vm.spec.firmware.as_ref();
    let kernel = firmware.and_then(|firmware| firmware.kernel.as_ref());
    disks
        .filter_map(|disk| disk.claim_name(&name))
        .chain(kernel.map(|kernel| kernel.claim.name.clone()))
        .chain(sources.filter_map(|disk| Some(disk.from()?.claim.as_ref()?.name.clone())))
        .collect()
}
