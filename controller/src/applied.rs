//! What a pod was made from, so that what a restart would change can be told.
//!
//! The pod carries image and spec as an annotation. Both sides of a comparison
//! are read into today's type first: a field that a later release adds has its
//! default on both, and an upgrade asks for no restart. Long texts are there
//! as a digest, and what is applied to a running VM is not there at all.

use std::collections::BTreeSet;

use coracle_api::vm::{MemorySize, VirtualMachineSpec, WhenDeleted};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::fnv1a;

/// What a pod was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// Reference of the VM image.
    pub image: String,
    /// The spec, condensed.
    pub spec: VirtualMachineSpec,
}

impl Applied {
    /// What a pod made now would be made from.
    #[must_use]
    pub fn new(spec: &VirtualMachineSpec, image: &str) -> Self {
        Self {
            image: image.to_owned(),
            spec: condensed(spec),
        }
    }

    /// The annotation's value.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a spec is JSON")
    }

    /// Reads the annotation's value.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

fn condensed(spec: &VirtualMachineSpec) -> VirtualMachineSpec {
    let mut spec = spec.clone();
    let digest = |text: &mut Option<String>| {
        *text = text
            .take()
            .map(|text| format!("digest {:016x}", fnv1a(text.as_bytes())));
    };
    for disk in &mut spec.disks {
        if let Some(data) = &mut disk.cloud_init {
            digest(&mut data.user_data);
            digest(&mut data.network_data);
        }
        if let Some(template) = &mut disk.claim_template {
            // Applied to the claim, whether or not a guest uses it.
            template.size = MemorySize("1Mi".into());
            template.when_deleted = WhenDeleted::default();
        }
    }
    spec
}

/// The fields of the spec that differ, as the manifest calls them. `runPolicy`
/// is left to the caller: it has a say in what the pod does with it.
#[must_use]
pub fn differing(old: &VirtualMachineSpec, new: &VirtualMachineSpec) -> Vec<String> {
    let value = |spec| serde_json::to_value(spec).unwrap_or_default();
    let (old, new) = (value(old), value(new));
    let mut fields = Vec::new();
    for key in keys(&old, &new) {
        let path = format!("spec.{key}");
        match key.as_str() {
            "runPolicy" => {}
            "devices" | "disks" | "interfaces" => {
                fields.extend(items(&path, &named(&old[&key]), &named(&new[&key])));
            }
            _ => fields.push(path),
        }
    }
    fields
}

type Named = Vec<(String, Value)>;

fn named(list: &Value) -> Named {
    let items = list.as_array().into_iter().flatten();
    let name = |item: &Value| item["name"].as_str().unwrap_or_default().to_owned();
    items.map(|item| (name(item), item.clone())).collect()
}

/// The differences of two lists whose items have names.
fn items(path: &str, old: &Named, new: &Named) -> Vec<String> {
    let find = |list: &Named, name: &str| {
        let mut items = list.iter();
        items.find(|(n, _)| n == name).map(|(_, item)| item.clone())
    };
    let mut fields = Vec::new();
    for (name, item) in new {
        match find(old, name) {
            Some(before) => fields.extend(
                keys(&before, item)
                    .into_iter()
                    .map(|key| format!("{path}[{name}].{key}")),
            ),
            None => fields.push(format!("{path}[{name}]")),
        }
    }
    let gone = old.iter().filter(|(n, _)| find(new, n).is_none());
    fields.extend(gone.map(|(name, _)| format!("{path}[{name}]")));
    let order = |list: &Named| -> Vec<String> { list.iter().map(|(n, _)| n.clone()).collect() };
    if fields.is_empty() && order(old) != order(new) {
        fields.push(path.to_owned());
    }
    fields
}

/// The keys of two objects whose values differ.
fn keys(old: &Value, new: &Value) -> Vec<String> {
    let empty = Map::new();
    let old = old.as_object().unwrap_or(&empty);
    let new = new.as_object().unwrap_or(&empty);
    let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    all.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Applied, differing};
    use coracle_api::vm::VirtualMachineSpec;

    fn spec(change: impl FnOnce(&mut Value)) -> VirtualMachineSpec {
        let mut spec = json!({
            "memory": "1Gi",
            "disks": [
                {"name": "root", "claimTemplate": {"size": "1Gi"}},
                {"name": "data", "claim": {"name": "a"}},
                {"name": "seed", "cloudInit": {"userData": "secret words"}}
            ],
            "interfaces": [{"name": "default", "binding": "Slirp"}]
        });
        change(&mut spec);
        serde_json::from_value(spec).expect("a spec")
    }

    fn told(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let old = Applied::new(&spec(|_| {}), "image").to_json();
        let old = Applied::from_json(&old).expect("it was just written");
        let new = Applied::new(&spec(change), "image");
        differing(&old.spec, &new.spec)
    }

    #[test]
    fn every_change_that_needs_a_restart_is_named() {
        assert!(told(|_| {}).is_empty());
        assert_eq!(told(|s| s["memory"] = "2Gi".into()), ["spec.memory"]);
        for (key, value) in [
            ("nodeSelector", json!({"a": "b"})),
            ("tolerations", json!([{"operator": "Exists"}])),
            ("affinity", json!({"nodeAffinity": {}})),
            ("priorityClassName", json!("high")),
            ("schedulerName", json!("other")),
            ("runtimeClassName", json!("gvisor")),
            ("podSecurity", json!({"supplementalGroups": []})),
            ("terminationGracePeriodSeconds", json!(30)),
            ("cpuModel", json!("host")),
            ("firmware", json!({"bios": {}})),
        ] {
            assert_eq!(told(|s| s[key] = value), [format!("spec.{key}")]);
        }
        assert_eq!(
            told(|s| s["disks"][1]["claim"]["name"] = "b".into()),
            ["spec.disks[data].claim"],
            "the path in the pod is the same, the disk is not"
        );
        assert_eq!(
            told(|s| s["disks"][2]["cloudInit"]["userData"] = "other words".into()),
            ["spec.disks[seed].cloudInit"]
        );
        assert_eq!(
            told(|s| s["interfaces"][0]["model"] = "E1000e".into()),
            ["spec.interfaces[default].model"]
        );
        let swapped = |s: &mut Value| s["disks"].as_array_mut().expect("a list").swap(0, 1);
        assert_eq!(told(swapped), ["spec.disks"]);
        let gone = |s: &mut Value| drop(s["disks"].as_array_mut().expect("a list").remove(1));
        assert_eq!(told(gone), ["spec.disks[data]"]);
    }

    #[test]
    fn what_is_applied_live_needs_no_restart() {
        let template = json!({"size": "2Gi", "whenDeleted": "Delete"});
        assert!(told(|s| s["disks"][0]["claimTemplate"] = template).is_empty());
        assert!(told(|s| s["runPolicy"] = "Halted".into()).is_empty());
    }

    #[test]
    fn long_texts_are_not_carried() {
        let text = Applied::new(&spec(|_| {}), "image").to_json();
        assert!(!text.contains("secret words"), "{text}");
    }
}
