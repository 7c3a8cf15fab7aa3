//! Manifests that the API server refuses, by the schema and its rules: each
//! names the field and says what is wrong with it.

use anyhow::{Context, ensure};
use coracle_api::vm::VirtualMachine;
use coracle_e2e::{Cluster, vm_object};
use kube::api::PostParams;
use kube::core::Request;
use kube::{Client, Resource};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The table.
const TABLE: &str = include_str!("refused.yaml");

/// A way to break a VM, and what the refusal says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    spec: Map<String, Value>,
    #[serde(default)]
    disk: Map<String, Value>,
    says: Vec<String>,
}

impl Case {
    fn manifest(&self) -> Value {
        let mut vm = vm_object("wrong", self.spec.clone().into());
        let disk = vm.pointer_mut("/spec/disks/0");
        if let Some(disk) = disk.and_then(Value::as_object_mut) {
            disk.extend(self.disk.clone());
        }
        without_nulls(vm)
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

fn cases() -> anyhow::Result<Vec<Case>> {
    let mut table: serde_yaml_ng::Value = serde_yaml_ng::from_str(TABLE)?;
    table.apply_merge()?;
    Ok(serde_yaml_ng::from_value(table)?)
}

/// Every broken VM of the table.
pub(crate) fn manifests() -> anyhow::Result<Vec<Value>> {
    Ok(cases()?.iter().map(Case::manifest).collect())
}

/// Offers a manifest to the API server, as `kubectl` does, and returns why it
/// was refused.
pub(crate) async fn refusal(client: &Client, manifest: &Value) -> anyhow::Result<Option<String>> {
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let url = VirtualMachine::url_path(&(), Some("default"));
    let mut request = Request::new(url).create(&parameters, serde_json::to_vec(manifest)?)?;
    *request.uri_mut() = format!("{}&fieldValidation=Strict", request.uri()).parse()?;
    match client.request::<Value>(request).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message)),
        Err(other) => Err(other.into()),
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_field_and_the_reason() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let cases = cases()?;
    assert!(cases.len() >= 40, "{}", cases.len());
    let right = refusal(&cluster.client, &vm_object("right", json!({}))).await?;
    assert_eq!(right, None, "what each case breaks is not right itself");

    let mut unclear = Vec::new();
    for case in cases {
        let said = refusal(&cluster.client, &case.manifest()).await?;
        let clear = said
            .as_deref()
            .is_some_and(|said| case.says.iter().all(|part| said.contains(part)));
        if !clear {
            unclear.push(format!("{case:?}\n  {said:?}"));
        }
    }
    ensure!(unclear.is_empty(), "{}", unclear.join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_vm_whose_pods_name_would_be_too_long_is_refused() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let longest = vm_object(&"a".repeat(52), json!({}));
    assert_eq!(refusal(&cluster.client, &longest).await?, None);
    let longer = vm_object(&"a".repeat(53), json!({}));
    let said = refusal(&cluster.client, &longer).await?;
    let said = said.context("it was let through")?;
    assert!(
        said.contains("at most 52 characters: the pod is named after it"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_disk_keeps_its_kind_of_source() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let namespace = coracle_e2e::Namespace::new(&cluster).await?;
    let mut vm = vm_object("changed", json!({"runPolicy": "Halted"}));
    vm["metadata"]["namespace"] = json!(namespace.name);
    cluster.kubectl.apply(&vm).await?;
    vm["spec"]["disks"][0] = json!({"name": "root", "bootOrder": 1, "ephemeral": {"size": "1Gi"}});
    let refused = cluster.kubectl.apply(&vm).await;
    let said = refused.err().context("it was let through")?.to_string();
    assert!(
        said.contains("a disk keeps its kind of source: remove it and add one with another name"),
        "{said}"
    );
    Ok(())
}
