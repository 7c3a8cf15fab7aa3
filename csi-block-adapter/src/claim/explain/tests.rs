use serde_json::{Value, json};

use super::*;
use crate::claim::{ClassFacts, DriverFacts, VolumeFacts};

fn claim(mode: &str, access: &str, class: Option<&str>) -> PersistentVolumeClaim {
    read(json!({
        "metadata": {"name": "web-root"},
        "spec": {"volumeMode": mode, "accessModes": [access], "storageClassName": class,
                 "volumeName": "pv-1", "resources": {"requests": {"storage": "10Gi"}}},
        "status": {"phase": "Bound", "accessModes": [access], "capacity": {"storage": "10Gi"}}
    }))
}

fn read<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("an object of the API")
}

/// What stands behind a claim of a CSI driver.
fn csi(expandable: bool, attach: bool) -> StorageFacts {
    let volume = read(json!({"spec": {
        "csi": {"driver": "csi.example.com", "volumeHandle": "1"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "topology.example.com/zone", "operator": "In", "values": ["a", "b"]}]}]}}
    }}));
    let class = read(
        json!({"metadata": {"name": "fast"}, "provisioner": "csi.example.com",
                            "allowVolumeExpansion": expandable}),
    );
    let driver = read(json!({"metadata": {"name": "csi.example.com"},
                             "spec": {"attachRequired": attach, "fsGroupPolicy": "File"}}));
    StorageFacts {
        volume: Some(VolumeFacts::of(&volume).into()),
        class: ClassKnown::Known(ClassFacts::of(&class).into()),
        driver: Some(DriverFacts::of(&driver).into()),
    }
}

fn limited(count: i32) -> Vec<NodeFacts> {
    NodeFacts::of(&read(
        json!({"metadata": {"name": "node1"}, "spec": {"drivers": [
        {"name": "csi.example.com", "nodeID": "node1", "allocatable": {"count": count}}]}}),
    ))
}

#[test]
fn a_block_claim_of_a_driver_that_can_do_everything() {
    let (claim, storage, nodes) = (
        claim("Block", "ReadWriteMany", Some("fast")),
        csi(true, true),
        limited(16),
    );
    let classes = ["snap".to_owned()];
    let text = explain(&Subject {
        claim: &claim,
        storage: &storage,
        nodes: &nodes,
        snapshot_classes: Some(&classes),
        holders: &[],
    });
    insta::assert_snapshot!(text);
}

#[test]
fn a_filesystem_claim_of_a_driver_that_can_do_little() {
    let claim = claim("Filesystem", "ReadWriteOncePod", Some("fast"));
    let storage = csi(false, false);
    let holders = [Holder {
        pod: "web-1".into(),
        vm: Some("web".into()),
        read_only: false,
        shareable: false,
    }];
    let text = explain(&Subject {
        claim: &claim,
        storage: &storage,
        nodes: &limited(16),
        snapshot_classes: Some(&[]),
        holders: &holders,
    });
    insta::assert_snapshot!(text);
}

#[test]
fn a_static_local_volume() {
    let claim = claim("Block", "ReadWriteOnce", Some(""));
    let volume = read(json!({"spec": {"local": {"path": "/dev/sdb"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node1"]}]}]}}}}));
    let storage = StorageFacts {
        volume: Some(VolumeFacts::of(&volume).into()),
        ..StorageFacts::default()
    };
    let text = explain(&Subject {
        claim: &claim,
        storage: &storage,
        nodes: &[],
        snapshot_classes: None,
        holders: &[],
    });
    insta::assert_snapshot!(text);
}
