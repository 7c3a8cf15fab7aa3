use std::collections::BTreeSet;

use super::*;

mod filling;
mod images;

fn good() -> Value {
    serde_json::json!({
        "apiVersion": "coracle.dev/v1alpha1",
        "kind": "VirtualMachine",
        "metadata": {"name": "web"},
        "spec": {
            "cpus": 2,
            "memory": "1Gi",
            "disks": [
                {"name": "root", "bootOrder": 1, "claim": {"name": "web-root"}},
                {"name": "seed", "cloudInit": {"userData": "#cloud-config"}},
                {"name": "scratch", "ephemeral": {"size": "10Gi"}}
            ],
            "interfaces": [{"name": "default", "binding": "Slirp"}]
        }
    })
}

fn problems(object: Value) -> Vec<(String, String)> {
    let vm = serde_json::from_value(object).expect("deserializes");
    validate(&vm)
        .into_iter()
        .map(|p| (p.path, p.message))
        .collect()
}

#[test]
fn a_good_object_has_no_problems() {
    assert_eq!(problems(good()), vec![]);
}

/// Each row breaks the good object in one place.
#[test]
#[expect(clippy::too_many_lines, reason = "a table, one row per rule")]
fn each_rule_refuses_its_violation() {
    let rows: &[(&str, Value, &str, &str)] = &[
        (
            "/metadata/name",
            "Web".into(),
            "metadata.name",
            "lower-case",
        ),
        (
            "/metadata/name",
            "w".repeat(53).into(),
            "metadata.name",
            "at most 52",
        ),
        ("/spec/cpus", 0.into(), "spec.cpus", "too small"),
        ("/spec/cpus", 256.into(), "spec.cpus", "too large"),
        ("/spec/memory", "2G".into(), "spec.memory", "Mi, Gi or Ti"),
        (
            "/spec/disks/0/name",
            "Root".into(),
            "spec.disks[0].name",
            "does not match",
        ),
        (
            "/spec/disks/0/name",
            "seed".into(),
            "spec.disks",
            "two entries have the name \"seed\"",
        ),
        (
            "/spec/disks/0/serial",
            "a,b".into(),
            "spec.disks[0].serial",
            "does not match",
        ),
        (
            "/spec/disks/0/serial",
            "x".repeat(21).into(),
            "spec.disks[0].serial",
            "too long",
        ),
        (
            "/spec/disks/1/bootOrder",
            1.into(),
            "spec.disks",
            "same bootOrder",
        ),
        (
            "/spec/disks/1/claim",
            serde_json::json!({"name": "b"}),
            "spec.disks[1]",
            "exactly one of",
        ),
        (
            "/spec/disks/0/cache",
            "Writeback".into(),
            "spec.disks[0].io",
            "needs cache None",
        ),
        (
            "/spec/disks/0/blockSize",
            serde_json::json!({"logical": 4096, "physical": 512}),
            "spec.disks[0].blockSize",
            "must not be larger",
        ),
        (
            "/spec/disks/1/claimTemplate",
            serde_json::json!({"size": "1Gi"}),
            "spec.disks[1]",
            "exactly one of",
        ),
        (
            "/spec/disks/1/claimTemplate",
            serde_json::json!({"size": "1G"}),
            "spec.disks[1].claimTemplate.size",
            "does not match",
        ),
        (
            "/spec/disks/1/claimTemplate",
            serde_json::json!({"size": "1Gi", "dataSource": {"kind": "a", "name": "b"},
                               "dataSourceRef": {"kind": "a", "name": "b"}}),
            "spec.disks[1].claimTemplate",
            "at most one of dataSource",
        ),
        (
            "/spec/disks/1/cloudInit",
            serde_json::json!({}),
            "spec.disks[1].cloudInit",
            "exactly one of userData",
        ),
        (
            "/spec/firmware",
            serde_json::json!({}),
            "spec.firmware",
            "exactly one of bios and kernel",
        ),
        (
            "/spec/cpuTopology",
            serde_json::json!({"cores": 3}),
            "spec.cpuTopology",
            "must equal spec.cpus",
        ),
        (
            "/spec/interfaces/0/macAddress",
            "01:00:00:00:00:01".into(),
            "spec.interfaces[0].macAddress",
            "does not match",
        ),
    ];
    for (pointer, value, path, message) in rows {
        let mut object = good();
        object["spec"]["disks"][0]["io"] = "Native".into();
        let (parent, key) = pointer.rsplit_once('/').expect("has a parent");
        object.pointer_mut(parent).expect("there")[key] = value.clone();
        let found = problems(object);
        assert!(
            found.iter().any(|(p, m)| p == path && m.contains(message)),
            "{pointer}: {found:?}"
        );
    }
}

#[test]
fn more_rules_refuse_their_violations() {
    let mut object = good();
    object["spec"]["disks"] = serde_json::json!([
        {"name": "a", "ephemeral": {"size": "1Gi"}, "shareable": true, "bus": "Scsi", "queues": 2, "iothread": true},
        {"name": "b", "claim": {"name": "x"}, "shareable": true, "cache": "Writeback"},
        {"name": "c", "claim": {"name": "x"}}
    ]);
    let found = problems(object);
    for message in [
        "only a disk with a claim can be shareable",
        "queues needs bus Virtio",
        "iothread needs bus Virtio",
        "shareable needs cache None: another VM's writes would not be seen",
        "two disks use the same claim",
    ] {
        assert!(
            found.iter().any(|(_, m)| m == message),
            "{message}: {found:?}"
        );
    }
    let mut object = good();
    object["spec"]["disks"] = serde_json::json!([
        {"name": "a", "claim": {"name": "x"}, "readOnly": true, "bus": "Sata"},
        {"name": "b", "ephemeral": {"size": "1Gi"}, "cache": "Writethrough", "bus": "Usb",
         "blockSize": {"logical": 512, "physical": 4096}}
    ]);
    let found = problems(object);
    for message in [
        "bus Sata has no read-only",
        "Writethrough has no effect",
        "blockSize has no effect",
    ] {
        assert!(
            found.iter().any(|(_, m)| m.contains(message)),
            "{message}: {found:?}"
        );
    }
    let mut object = good();
    object["spec"]["disks"] = serde_json::json!([]);
    assert!(problems(object)[0].1.contains("nothing to boot from"));
    let mut object = good();
    let sata = |i| serde_json::json!({"name": format!("d{i}"), "bus": "Sata", "ephemeral": {"size": "1Gi"}});
    object["spec"]["disks"] = (0..7).map(sata).collect();
    assert!(problems(object)[0].1.contains("at most 6"));
}

#[test]
fn a_device_is_a_unit_of_an_extended_resource_and_none_of_ours() {
    let of = |resource: &str| {
        let mut object = good();
        object["spec"]["devices"] = serde_json::json!([{"name": "gpu", "resource": resource}]);
        problems(object)
    };
    let long = format!("{}/{}", "d".repeat(63), "n".repeat(63));
    for good in [
        "example.com/a10",
        "a/B_c.d-E",
        "intel.com/sriov_net",
        "coracle.dev/gpu",
        &long,
    ] {
        assert_eq!(of(good), vec![], "{good}");
    }
    let long = format!("example.com/{}", "n".repeat(64));
    for (bad, why) in [
        ("a10", "does not match"),
        ("Example.com/a10", "does not match"),
        ("example.com/a10/b", "does not match"),
        ("example.com/-a", "does not match"),
        ("example..com/a", "does not match"),
        (&long, "does not match"),
        ("gpu.kubernetes.io/a", "Kubernetes' own"),
        ("requests.example.com/a", "Kubernetes' own"),
        ("coracle.dev/kvm", "no device for a guest"),
        ("coracle.dev/vhost-net", "no device for a guest"),
    ] {
        let found = of(bad);
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
        assert_eq!(found[0].0, "spec.devices[0].resource");
        assert!(found[0].1.contains(why), "{bad}: {}", found[0].1);
    }
    let mut object = good();
    let twice = serde_json::json!({"name": "gpu", "resource": "example.com/a10"});
    object["spec"]["devices"] = serde_json::json!([twice, twice]);
    assert!(problems(object)[0].1.contains("two entries have the name"));
}

/// A CEL rule without its predicate, or the other way round, fails here.
#[test]
fn the_predicates_are_the_schemas_rules() {
    fn collect(value: &Value, into: &mut BTreeSet<String>) {
        for rule in value
            .get("x-kubernetes-validations")
            .map_or(&[][..], elements)
        {
            if !rule["rule"].as_str().expect("a rule").contains("oldSelf") {
                into.insert(
                    rule["message"]
                        .as_str()
                        .expect("every rule has a message")
                        .to_owned(),
                );
            }
        }
        for inner in value.as_object().into_iter().flat_map(|map| map.values()) {
            collect(inner, into);
        }
        for inner in elements(value) {
            collect(inner, into);
        }
    }
    let mut in_schema = BTreeSet::new();
    collect(
        &serde_json::to_value(VirtualMachine::crd()).expect("JSON"),
        &mut in_schema,
    );
    let here: BTreeSet<String> = SPEC_RULES
        .iter()
        .map(|rule| rule.message)
        .chain(DISK_RULES.iter().map(|rule| rule.message))
        .chain(import::RULES.iter().map(|rule| rule.message))
        .chain(device::RULES.iter().map(|rule| rule.message))
        .chain([NAME_TOO_LONG])
        .map(str::to_owned)
        .collect();
    assert_eq!(in_schema, here);
}
