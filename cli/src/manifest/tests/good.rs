//! Manifests that are fine, and what becomes of them.

use super::*;

#[test]
fn documents_come_in_any_order_and_any_number_of_files() {
    let both = format!("{CLAIM}---\n{VM}");
    let secret = "\
apiVersion: v1
kind: Secret
metadata: {name: seed}
data: {userdata: b2xk, networkdata: YQ==}
stringData: {userdata: new}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: files, namespace: default}
data: {a: b}
";
    let read = parse(&[("both.yaml", &both), ("more.yaml", secret)]).expect("manifests");
    assert_eq!(read.vm.metadata.name.as_deref(), Some("web"));
    assert_eq!(read.vm.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(read.vm.spec.cpus, 1, "defaults are filled in");
    let spec = read.claims["web-root"].spec.as_ref().expect("spec");
    assert_eq!(spec.volume_mode.as_deref(), Some("Block"));
    assert_eq!(
        read.claims["web-root"].metadata.namespace.as_deref(),
        Some("default")
    );
    let seed = &read.secrets["seed"];
    assert_eq!(seed.string_data, None);
    let data = seed.data.as_ref().expect("data");
    assert_eq!(data["userdata"].0, b"new");
    assert_eq!(data["networkdata"].0, b"a");
    assert_eq!(
        read.config_maps["files"].data.as_ref().expect("data")["a"],
        "b"
    );
}

#[test]
fn what_kubectl_prints_can_be_read() {
    let json = r#"{"apiVersion":"coracle.dev/v1alpha1","kind":"VirtualMachine","metadata":{
        "name":"web","creationTimestamp":"2026-11-25T03:00:00Z","generation":2,"uid":"x",
        "managedFields":[{"manager":"kubectl","fieldsV1":{"f:spec":{".":{}}}}]},
        "spec":{"memory":"1Gi","cpus":2,"disks":[{"name":"root","claim":{"name":"web-root"},"serial":null}]},
        "status":{"phase":"Running"}}"#;
    let claim = CLAIM.replace("storage: 10Gi", "storage: 10737418240");
    let read = parse(&[("vm.json", json), ("claim.yaml", &claim)]).expect("manifests");
    assert_eq!(read.vm.spec.cpus, 2);
    let spec = read.claims["web-root"].spec.as_ref().expect("spec");
    let requests = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    assert_eq!(requests.expect("requests")["storage"].0, "10737418240");
}

#[test]
fn files_are_read_and_named_when_they_cannot_be() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("vm.yaml");
    std::fs::write(&path, format!("{VM}---\n{CLAIM}")).expect("write");
    Manifests::load(std::slice::from_ref(&path)).expect("manifests");
    let missing = dir.path().join("missing.yaml");
    let error = Manifests::load(&[path.clone(), missing.clone()]).expect_err("missing");
    assert_eq!(
        error.to_string(),
        format!("manifest {} cannot be read", missing.display())
    );
    std::fs::write(&path, b"a: \xff\n").expect("write");
    let error = Manifests::load(&[path]).expect_err("no text");
    assert!(matches!(error, ManifestError::Read { .. }), "{error:?}");
}
