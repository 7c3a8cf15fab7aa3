//! `kubectl coracle list`.

use std::collections::BTreeMap;

use coracle_api::vm::{ConditionType, Phase, RunPolicy, VirtualMachine};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use super::age;
use super::args::{ListArgs, Output};
use super::connect::Cluster;
use super::error::{Doing, PluginError, VMS};
use super::facts::condition;
use super::table::table;
use crate::console;
use crate::progress::say;

/// Lists.
pub(super) async fn list(cluster: &Cluster, args: &ListArgs) -> Result<(), PluginError> {
    let (api, doing): (Api<VirtualMachine>, _) = if args.all_namespaces {
        (Api::all(cluster.client.clone()), Doing::new("list", VMS))
    } else {
        let doing = Doing::new("list", VMS).within(&cluster.namespace);
        (cluster.vms(), doing)
    };
    let mut parameters = ListParams::default();
    if let Some(selector) = &args.selector {
        parameters = parameters.labels(selector);
    }
    let found = api.list(&parameters).await;
    let mut vms = found.map_err(|error| doing.failed(error))?.items;
    vms.sort_by_cached_key(|vm| (vm.metadata.namespace.clone(), vm.metadata.name.clone()));
    let text = match args.output {
        Some(Output::Json) => objects(&vms, |list| {
            serde_json::to_string_pretty(list).map(|text| text + "\n")
        }),
        Some(Output::Yaml) => objects(&vms, serde_yaml_ng::to_string),
        None | Some(Output::Wide) => {
            if vms.is_empty() {
                say(&nothing(cluster, args));
            } else {
                say(&summary(&vms));
            }
            rows(&vms, args, age::now())
        }
    };
    console::show(text.as_bytes());
    Ok(())
}

fn objects<E>(
    vms: &[VirtualMachine],
    write: impl FnOnce(&serde_json::Value) -> Result<String, E>,
) -> String {
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": vms});
    write(&list).unwrap_or_default()
}

fn nothing(cluster: &Cluster, args: &ListArgs) -> String {
    if args.all_namespaces {
        "no VM in any namespace".to_owned()
    } else {
        format!(
            "no VM in namespace {:?}; -A looks in all",
            cluster.namespace
        )
    }
}

/// `3 VMs: 2 Running, 1 Failed`, in the order of a VM's life.
fn summary(vms: &[VirtualMachine]) -> String {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for vm in vms {
        let phase = phase(vm);
        let place = Phase::ALL.iter().position(|known| Some(*known) == phase);
        *counts.entry(place.unwrap_or(Phase::ALL.len())).or_default() += 1;
    }
    let each: Vec<String> = counts
        .iter()
        .map(|(place, count)| match Phase::ALL.get(*place) {
            Some(phase) => format!("{count} {phase:?}"),
            None => format!("{count} not looked at by the controller yet"),
        })
        .collect();
    let plural = if vms.len() == 1 { "VM" } else { "VMs" };
    format!("{} {plural}: {}", vms.len(), each.join(", "))
}

fn phase(vm: &VirtualMachine) -> Option<Phase> {
    vm.status.as_ref().and_then(|status| status.phase)
}

fn rows(vms: &[VirtualMachine], args: &ListArgs, now: Timestamp) -> String {
    if vms.is_empty() {
        return String::new();
    }
    let wide = args.output == Some(Output::Wide);
    let mut head = vec!["NAME", "PHASE", "READY", "REASON", "NODE", "IP", "AGE"];
    if args.all_namespaces {
        head.insert(0, "NAMESPACE");
    }
    if wide {
        head.extend(["CPUS", "MEMORY", "POLICY", "POD"]);
    }
    let mut lines = vec![head.into_iter().map(str::to_owned).collect()];
    for vm in vms {
        let mut line = row(vm, now);
        if args.all_namespaces {
            line.insert(0, vm.metadata.namespace.clone().unwrap_or_default());
        }
        if wide {
            let pod = vm
                .status
                .as_ref()
                .and_then(|status| status.pod_name.clone());
            line.extend([
                vm.spec.cpus.to_string(),
                vm.spec.memory.to_string(),
                policy(vm.spec.run_policy),
                pod.unwrap_or_else(dash),
            ]);
        }
        lines.push(line);
    }
    table(&lines)
}

fn row(vm: &VirtualMachine, now: Timestamp) -> Vec<String> {
    let status = vm.status.clone().unwrap_or_default();
    let ready = condition(&status, ConditionType::Ready);
    vec![
        vm.metadata.name.clone().unwrap_or_default(),
        phase(vm).map_or_else(dash, |phase| format!("{phase:?}")),
        ready.map_or_else(dash, |ready| ready.status.clone()),
        ready
            .filter(|ready| ready.status != "True")
            .map_or_else(dash, |ready| ready.reason.clone()),
        status.node_name.clone().unwrap_or_else(dash),
        status.pod_ip.clone().unwrap_or_else(dash),
        age::since(vm.metadata.creation_timestamp.as_ref(), now),
    ]
}

fn policy(policy: RunPolicy) -> String {
    format!("{policy:?}")
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::testing::{at, running, vm};

    fn args(all: bool, output: Option<Output>) -> ListArgs {
        ListArgs {
            all_namespaces: all,
            selector: None,
            output,
        }
    }

    fn some() -> Vec<VirtualMachine> {
        let mut refused = vm("db");
        refused.status = Some(
            serde_json::from_value(json!({
                "phase": "Pending",
                "conditions": [{
                    "type": "Ready", "status": "False", "reason": "ClaimNotFound",
                    "message": "claim \"db\" does not exist",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
            }))
            .expect("a status"),
        );
        let mut new = vm("new");
        new.status = None;
        vec![refused, new, running("web")]
    }

    #[test]
    fn the_table_shows_phases_at_a_glance() {
        insta::assert_snapshot!(rows(&some(), &args(false, None), at("00:02:10")));
    }

    #[test]
    fn the_wide_table_of_all_namespaces_shows_more() {
        let args = args(true, Some(Output::Wide));
        insta::assert_snapshot!(rows(&some(), &args, at("05:00:00")));
    }

    #[test]
    fn the_summary_counts_phases_in_their_order() {
        insta::assert_snapshot!(summary(&some()));
    }
}
