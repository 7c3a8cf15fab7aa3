//! What of the spec the running guest does not have yet.
//!
//! The pod carries the machine description it was made with; the spec gives
//! another one now. Both are JSON, and the names of what differs are turned
//! back into the names of the manifest.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::Settings;
use crate::cluster::decide::Observation;
use crate::cluster::facts::PodFacts;
use crate::plan::VmPlan;
use crate::{machine, pod};

/// The fields of the spec that a restart would apply.
pub(super) fn changed(seen: &Observation, pod: &PodFacts, settings: &Settings) -> Vec<String> {
    // Only a new generation can differ; the rest of the time nothing is built.
    if pod.carried.generation == seen.vm.metadata.generation {
        return vec![];
    }
    let Ok(plan) = VmPlan::new(&seen.vm, 1, &seen.observed) else {
        return vec![];
    };
    let wanted = serde_json::to_value(machine::machine(&plan)).unwrap_or_default();
    let carried = serde_json::from_str(&pod.carried.machine).unwrap_or_default();
    let mut fields = machine_fields(&carried, &wanted);
    let (policy, codes) = pod::restarting(seen.vm.spec.run_policy, settings.restarts);
    if pod.carried.restart_policy != policy || pod.carried.restart_codes != codes {
        fields.push("spec.runPolicy".to_owned());
    }
    fields
}

fn machine_fields(carried: &Value, wanted: &Value) -> Vec<String> {
    let plain = [
        ("accelerator", "spec.accelerator"),
        ("cpu", "spec.cpus"),
        ("memoryBytes", "spec.memory"),
        ("firmware", "spec.firmware"),
        ("shutdownSeconds", "spec.terminationGracePeriodSeconds"),
    ];
    let differing = plain
        .iter()
        .filter(|(key, _)| carried[*key] != wanted[*key]);
    let mut fields: Vec<String> = differing.map(|(_, field)| (*field).to_owned()).collect();
    for list in ["disks", "interfaces"] {
        fields.extend(items(
            &format!("spec.{list}"),
            &named(&carried[list]),
            &named(&wanted[list]),
        ));
    }
    fields
}

type Named = Vec<(String, Value)>;

fn named(list: &Value) -> Named {
    let items = list.as_array().into_iter().flatten();
    let name = |item: &Value| item["name"].as_str().unwrap_or_default().to_owned();
    items.map(|item| (name(item), settled(item))).collect()
}

/// The differences of two lists whose items have names.
fn items(path: &str, carried: &Named, wanted: &Named) -> Vec<String> {
    let find = |list: &Named, name: &str| {
        let mut items = list.iter();
        items.find(|(n, _)| n == name).map(|(_, item)| item.clone())
    };
    let mut fields = Vec::new();
    for (name, item) in wanted {
        match find(carried, name) {
            Some(old) => fields.extend(
                keys(&old, item)
                    .into_iter()
                    .map(|key| format!("{path}[{name}].{key}")),
            ),
            None => fields.push(format!("{path}[{name}]")),
        }
    }
    let gone = carried.iter().filter(|(n, _)| find(wanted, n).is_none());
    fields.extend(gone.map(|(name, _)| format!("{path}[{name}]")));
    let order = |list: &Named| -> Vec<String> { list.iter().map(|(n, _)| n.clone()).collect() };
    if fields.is_empty() && order(carried) != order(wanted) {
        fields.push(path.to_owned());
    }
    fields
}

/// An item without what follows from the claim and not from the spec: a claim
/// that grew asks for no restart.
fn settled(item: &Value) -> Value {
    let mut item = item.clone();
    if let Some(source) = item.get_mut("source").and_then(Value::as_object_mut) {
        source.remove("createBytes");
    }
    item
}

/// The keys of a disk or interface that differ, as the manifest calls them.
fn keys(old: &Value, new: &Value) -> Vec<String> {
    let empty = Map::new();
    let old = old.as_object().unwrap_or(&empty);
    let new = new.as_object().unwrap_or(&empty);
    let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    all.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| match key.as_str() {
            "bootIndex" => "bootOrder".to_owned(),
            other => other.to_owned(),
        })
        .collect()
}
