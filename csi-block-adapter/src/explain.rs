//! `coracle-block explain claim`: the words of [`claim::explain`] for objects
//! that `kubectl` has fetched. No API client is in this program, which also
//! runs on nodes.

use std::fs;
use std::io::{Read as _, stdin};
use std::path::Path;

use anyhow::{Context as _, bail};
use coracle_block::claim::{
    ClassFacts, ClassKnown, DriverFacts, Explanation, NodeFacts, StorageFacts, Subject,
    VolumeFacts, explain, storage_class,
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, StorageClass};
use serde::Deserialize;
use serde_json::Value;

/// What is read: a list, as `kubectl get -o json` prints it.
#[derive(Deserialize)]
struct List {
    items: Vec<Value>,
}

/// Explains the claim `name` of the objects in a file, or on standard input.
pub(crate) fn explain_claim(
    name: &str,
    namespace: Option<&str>,
    file: &Path,
) -> anyhow::Result<Explanation> {
    let mut text = String::new();
    if file == Path::new("-") {
        stdin()
            .read_to_string(&mut text)
            .context("reading standard input")?;
    } else {
        text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    }
    let list: List = serde_json::from_str(&text).context(
        "reading the objects: a list is wanted, as kubectl get pvc,pv,storageclass -o json prints",
    )?;
    explain_of(name, namespace, list)
}

fn explain_of(name: &str, namespace: Option<&str>, list: List) -> anyhow::Result<Explanation> {
    let mut objects = Objects::default();
    for item in list.items {
        objects.take(item)?;
    }
    let mut claims = objects.claims.iter().filter(|claim| {
        let metadata = &claim.metadata;
        metadata.name.as_deref() == Some(name)
            && namespace.is_none_or(|wanted| metadata.namespace.as_deref() == Some(wanted))
    });
    let claim = match (claims.next(), claims.next()) {
        (Some(claim), None) => claim,
        (Some(_), Some(_)) => bail!("several claims are called {name:?}: say --namespace"),
        (None, _) => bail!("no claim among the objects is called {name:?}"),
    };
    let storage = objects.storage(claim);
    let driver = storage.driver.as_ref();
    let snapshot_classes: Vec<String> = objects
        .snapshot_classes
        .iter()
        .filter(|(of, _)| driver.is_some_and(|driver| *of == driver.name))
        .map(|(_, class)| class.clone())
        .collect();
    Ok(explain(&Subject {
        claim,
        storage: &storage,
        nodes: &objects.nodes,
        snapshot_classes: (!objects.snapshot_classes.is_empty()).then_some(&snapshot_classes),
        holders: &[],
    }))
}

#[derive(Default)]
struct Objects {
    claims: Vec<PersistentVolumeClaim>,
    volumes: Vec<PersistentVolume>,
    classes: Vec<ClassFacts>,
    drivers: Vec<DriverFacts>,
    nodes: Vec<NodeFacts>,
    /// Driver and name of each.
    snapshot_classes: Vec<(String, String)>,
}

impl Objects {
    fn take(&mut self, item: Value) -> anyhow::Result<()> {
        let kind = item["kind"].as_str().unwrap_or_default().to_owned();
        match kind.as_str() {
            "PersistentVolumeClaim" => self.claims.push(serde_json::from_value(item)?),
            "PersistentVolume" => self.volumes.push(serde_json::from_value(item)?),
            "StorageClass" => {
                let class: StorageClass = serde_json::from_value(item)?;
                self.classes.push(ClassFacts::of(&class));
            }
            "CSIDriver" => {
                let driver: CSIDriver = serde_json::from_value(item)?;
                self.drivers.push(DriverFacts::of(&driver));
            }
            "CSINode" => {
                let node: CSINode = serde_json::from_value(item)?;
                self.nodes.extend(NodeFacts::of(&node));
            }
            "VolumeSnapshotClass" => {
                let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let class = (word(&item["driver"]), word(&item["metadata"]["name"]));
                self.snapshot_classes.push(class);
            }
            // Whatever else was fetched says nothing of a claim.
            _ => {}
        }
        Ok(())
    }

    fn storage(&self, claim: &PersistentVolumeClaim) -> StorageFacts {
        let bound = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
        let mut volumes = self.volumes.iter();
        let volume = volumes.find(|v| bound.is_some() && v.metadata.name.as_deref() == bound);
        let volume = volume.map(VolumeFacts::of);
        let class = storage_class(claim).filter(|class| !class.is_empty());
        let class = class.map_or(ClassKnown::Unasked, |name| {
            let found = self.classes.iter().find(|class| class.name == name);
            found.map_or(ClassKnown::Missing, |class| {
                ClassKnown::Known(class.clone().into())
            })
        });
        let provisioner = match &class {
            ClassKnown::Known(class) => Some(class.provisioner.as_str()),
            ClassKnown::Missing | ClassKnown::Unasked => None,
        };
        let of_volume = volume.as_ref().and_then(|volume| volume.driver.as_deref());
        let name = of_volume.or_else(|| provisioner.filter(|_| volume.is_none()));
        let driver = self.drivers.iter().find(|d| Some(d.name.as_str()) == name);
        StorageFacts {
            driver: driver.cloned().map(Into::into),
            volume: volume.map(Into::into),
            class,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{List, explain_of};

    fn objects() -> List {
        serde_json::from_value(json!({"items": [
            {"kind": "PersistentVolumeClaim", "metadata": {"name": "root", "namespace": "a"},
             "spec": {"volumeName": "pv", "volumeMode": "Block", "storageClassName": "fast",
                      "accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Bound"}},
            {"kind": "PersistentVolumeClaim", "metadata": {"name": "root", "namespace": "b"}},
            {"kind": "PersistentVolume", "metadata": {"name": "pv"},
             "spec": {"csi": {"driver": "d", "volumeHandle": "1"}}},
            {"kind": "StorageClass", "metadata": {"name": "fast"}, "provisioner": "d",
             "allowVolumeExpansion": true},
            {"kind": "CSIDriver", "metadata": {"name": "d"}, "spec": {"attachRequired": false}},
            {"kind": "CSINode", "metadata": {"name": "n"}, "spec": {"drivers": []}},
            {"kind": "VolumeSnapshotClass", "metadata": {"name": "s"}, "driver": "d"},
            {"kind": "ConfigMap"}
        ]}))
        .expect("a list")
    }

    #[test]
    fn the_objects_behind_a_claim_are_found_among_all() {
        let found = explain_of("root", Some("a"), objects()).expect("it is there");
        let can: Vec<_> = found.abilities.iter().map(|a| (a.what, a.can)).collect();
        assert_eq!(
            can,
            [
                ("share", true),
                ("expand", true),
                ("snapshot", true),
                ("migrate", false)
            ]
        );
        assert!(found.reaches.contains("needs no attaching"), "{found}");
    }

    #[test]
    fn a_claim_must_be_one_and_only_one() {
        let two = explain_of("root", None, objects()).expect_err("two have the name");
        assert!(two.to_string().contains("--namespace"), "{two}");
        let none = explain_of("other", None, objects()).expect_err("there is none");
        assert!(none.to_string().contains("other"), "{none}");
    }
}
