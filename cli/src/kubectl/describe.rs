//! `kubectl coracle describe`: everything that is known of a VM, and what to
//! do next. What the user may not read is said to be so, and left out.

use std::collections::BTreeMap;

use coracle_api::vm::VirtualMachine;
use coracle_block::claim::Explanation;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::ListParams;

use super::age;
use super::connect::Cluster;
use super::error::{Doing, PluginError};
use crate::console::show;

mod advice;
mod disks;
mod machine;
mod storage;
mod text;

/// Everything that is shown.
struct Facts {
    vm: VirtualMachine,
    /// The pod, while there is one.
    pod: Option<Pod>,
    /// The claims that the VM names; `None` for one that is not there.
    claims: BTreeMap<String, Option<PersistentVolumeClaim>>,
    /// Of the claims, as far as everything behind them may be read.
    explanations: Vec<Explanation>,
    /// Of the VM and of its pod, the oldest first.
    events: Vec<Event>,
    /// What could not be read.
    hidden: Vec<String>,
}

/// Describes.
pub(super) async fn describe(cluster: &Cluster, name: &str) -> Result<(), PluginError> {
    let vm = cluster.vm(name).await?;
    let mut hidden = Vec::new();
    let pod = pod(cluster, &vm, &mut hidden).await;
    let claims = claims(cluster, &vm, &mut hidden).await;
    let explanations = explanations(cluster, &claims, &mut hidden).await;
    let mut events = events(cluster, name, &mut hidden).await;
    if let Some(pod) = vm
        .status
        .as_ref()
        .and_then(|status| status.pod_name.as_deref())
    {
        events.extend(self::events(cluster, pod, &mut hidden).await);
    }
    hidden.sort();
    hidden.dedup();
    events.sort_by_key(text::time_of);
    let facts = Facts {
        vm,
        pod,
        claims,
        explanations,
        events,
        hidden,
    };
    show(text::render(&facts, age::now()).as_bytes());
    Ok(())
}

async fn pod(cluster: &Cluster, vm: &VirtualMachine, hidden: &mut Vec<String>) -> Option<Pod> {
    let name = vm.status.as_ref()?.pod_name.as_deref()?;
    let doing = Doing::new("get", "pods")
        .within(&cluster.namespace)
        .on(name);
    match cluster.pods().get_opt(name).await {
        Ok(pod) => pod,
        Err(error) => {
            hidden.push(doing.failed(error).to_string());
            None
        }
    }
}

async fn claims(
    cluster: &Cluster,
    vm: &VirtualMachine,
    hidden: &mut Vec<String>,
) -> BTreeMap<String, Option<PersistentVolumeClaim>> {
    let api: Api<PersistentVolumeClaim> = cluster.api();
    let mut claims = BTreeMap::new();
    for name in disks::claim_names(vm) {
        match api.get_opt(&name).await {
            Ok(claim) => drop(claims.insert(name, claim)),
            Err(error) => {
                let doing = Doing::new("get", "persistentvolumeclaims");
                let doing = doing.within(&cluster.namespace).on(&name);
                hidden.push(doing.failed(error).to_string());
            }
        }
    }
    claims
}

async fn explanations(
    cluster: &Cluster,
    claims: &BTreeMap<String, Option<PersistentVolumeClaim>>,
    hidden: &mut Vec<String>,
) -> Vec<Explanation> {
    let mut explanations = Vec::new();
    for claim in claims.values().flatten() {
        match storage::explanation(cluster, claim).await {
            Ok(explanation) => explanations.push(explanation),
            Err(error) => hidden.push(error.to_string()),
        }
    }
    explanations
}

async fn events(cluster: &Cluster, name: &str, hidden: &mut Vec<String>) -> Vec<Event> {
    let of = ListParams::default().fields(&format!("involvedObject.name={name}"));
    let doing = Doing::new("list", "events").within(&cluster.namespace);
    match cluster.api::<Event>().list(&of).await {
        Ok(found) => found.items,
        Err(error) => {
            hidden.push(doing.failed(error).to_string());
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests;
