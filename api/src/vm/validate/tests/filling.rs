//! Claims that are filled before their VM first starts.

use serde_json::{Value, json};

use super::{good, problems};

/// The problems of a VM whose first disk's claim, or template of one, is filled
/// from this.
fn filled_from(field: &str, from: &Value) -> Vec<(String, String)> {
    let mut object = good();
    object["spec"]["disks"][0] = match field {
        "claim" => json!({"name": "root", "claim": {"name": "r", "from": from}}),
        _ => json!({"name": "root", "claimTemplate": {"size": "1Gi", "from": from}}),
    };
    problems(object)
}

fn http(url: &str) -> Value {
    json!({"http": {"url": url}})
}

fn image(reference: &str) -> Value {
    json!({"image": {"reference": reference}})
}

#[test]
fn a_claim_is_filled_from_a_source_of_each_kind() {
    let sum = format!("sha256:{}", "0a".repeat(32));
    for good in [
        http("https://a.example/debian.qcow2"),
        http("https://[fd00::1]:8443?file=a"),
        json!({"http": {"url": "http://10.0.0.1:8000/a.img", "checksum": sum}}),
        image("debian"),
        image("registry.example:5000/vms/debian:12"),
        image(&format!("a.example/b@{sum}")),
        json!({"image": {"reference": "a/b", "path": "disk/root.img"}}),
        json!({"claim": {"name": "golden"}}),
    ] {
        for field in ["claim", "claimTemplate"] {
            assert_eq!(filled_from(field, &good), vec![], "{field} {good}");
        }
    }
}

#[test]
fn a_claim_is_filled_from_one_source_that_can_be_trusted() {
    for (bad, path, why) in [
        (json!({}), "", "exactly one of http"),
        (
            json!({"claim": {"name": "a"}, "image": {"reference": "b"}}),
            "",
            "exactly one of http",
        ),
        (
            http("http://a.example/b"),
            ".http.url",
            "without a checksum",
        ),
        (http("ftp://a.example/b"), ".http.url", "does not match"),
        (
            http("https://me:word@a.example/b"),
            ".http.url",
            "does not match",
        ),
        (http("https://a.example/a b"), ".http.url", "does not match"),
        (
            json!({"http": {"url": "https://a.example/", "checksum": "0a0a"}}),
            ".http.checksum",
            "does not match",
        ),
        (image("a.example/B"), ".image.reference", "does not match"),
        (image("docker://a/b"), ".image.reference", "does not match"),
        (image("a/b#c"), ".image.reference", "does not match"),
        (
            json!({"image": {"reference": "a", "path": "../b"}}),
            ".image.path",
            "does not match",
        ),
    ] {
        for field in ["claim", "claimTemplate"] {
            let found = filled_from(field, &bad);
            let path = format!("spec.disks[0].{field}.from{path}");
            assert!(
                found.iter().any(|(p, m)| *p == path && m.contains(why)),
                "{bad}: {found:?}"
            );
        }
    }
}

#[test]
fn what_is_filled_is_the_vms_alone_and_empty() {
    let refused = |disk: Value, path: &str, why: &str| {
        let mut object = good();
        object["spec"]["disks"][0] = disk;
        let found = problems(object);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, path);
        assert!(found[0].1.contains(why), "{found:?}");
    };
    let from = json!({"claim": {"name": "golden"}});
    refused(
        json!({"name": "root", "claim": {"name": "golden", "from": from}}),
        "spec.disks[0].claim.from",
        "filled from itself",
    );
    refused(
        json!({"name": "root", "shareable": true, "claim": {"name": "r", "from": from}}),
        "spec.disks[0].shareable",
        "fill the claim with a VM that has it alone",
    );
    refused(
        json!({"name": "root", "claimTemplate": {
            "size": "1Gi", "from": from, "dataSource": {"kind": "a", "name": "b"}}}),
        "spec.disks[0].claimTemplate.from",
        "fills an empty volume",
    );
}
