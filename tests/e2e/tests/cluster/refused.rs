//! Manifests that the API server refuses, by the schema and its rules: each
//! names the field and says what is wrong with it.

use anyhow::{Context, ensure};
use coracle_api::vm::VirtualMachine;
use coracle_e2e::{Cluster, vm_object};
use kube::api::PostParams;
use kube::core::Request;
use kube::{Client, Resource};
use serde_json::{Value, json};

/// What is said in `spec`, and what the refusal says.
fn wrong_specs() -> Vec<(Value, [&'static str; 2])> {
    let disks = |disks: Value| json!({ "disks": disks });
    vec![
        (json!({"memory": null}), ["spec.memory", "Required value"]),
        (
            json!({"memory": "2G"}),
            ["spec.memory", "^[1-9][0-9]{0,6}(Mi|Gi|Ti)$"],
        ),
        (json!({"memory": "0Mi"}), ["spec.memory", "should match"]),
        (
            json!({"memory": 2048}),
            ["spec.memory", "must be of type string"],
        ),
        (
            json!({"cpus": 0}),
            ["spec.cpus", "greater than or equal to 1"],
        ),
        (
            json!({"cpus": 256}),
            ["spec.cpus", "less than or equal to 255"],
        ),
        (
            json!({"cpus": "2"}),
            ["spec.cpus", "must be of type integer"],
        ),
        (
            json!({"cpus": 4, "cpuTopology": {"sockets": 2, "cores": 3}}),
            [
                "spec.cpuTopology",
                "sockets × cores × threads must equal spec.cpus",
            ],
        ),
        (
            json!({"cpuModel": "host;rm"}),
            ["spec.cpuModel", "should match"],
        ),
        (
            json!({"runPolicy": "Sometimes"}),
            [
                "spec.runPolicy",
                "\"Always\", \"OnFailure\", \"Once\", \"Halted\"",
            ],
        ),
        (
            json!({"accelerator": "Tcg"}),
            ["spec.accelerator", "\"Kvm\", \"Emulation\""],
        ),
        (
            json!({"firmware": {}}),
            ["spec.firmware", "say exactly one of bios and kernel"],
        ),
        (
            json!({"firmware": {"bios": {}, "kernel": {"claim": {"name": "k"}, "path": "vmlinuz"}}}),
            ["spec.firmware", "say exactly one of bios and kernel"],
        ),
        (
            json!({"firmware": {"kernel": {"claim": {"name": "k"}, "path": "../vmlinuz"}}}),
            ["spec.firmware.kernel.path", "should match"],
        ),
        (
            json!({"firmware": {"kernel": {"path": "vmlinuz"}}}),
            ["spec.firmware.kernel.claim", "Required value"],
        ),
        (
            json!({"terminationGracePeriodSeconds": 1}),
            [
                "spec.terminationGracePeriodSeconds",
                "greater than or equal to 5",
            ],
        ),
        (
            json!({"terminationGracePeriodSeconds": 100_000}),
            [
                "spec.terminationGracePeriodSeconds",
                "less than or equal to 86400",
            ],
        ),
        (json!({"cpu": 2}), ["spec.cpu", "unknown field"]),
        (
            json!({"podSecurity": {"runAsUser": 0}}),
            ["spec.podSecurity.runAsUser", "unknown field"],
        ),
        (json!({"disks": []}), ["spec", "nothing to boot from"]),
        (
            disks(json!([{"name": "seed", "cloudInit": {"userData": "#cloud-config"}}])),
            [
                "spec",
                "nothing to boot from: add a disk with a claim, or spec.firmware.kernel",
            ],
        ),
        (
            disks(
                json!([{"name": "a", "claim": {"name": "a"}}, {"name": "a", "claim": {"name": "b"}}]),
            ),
            ["spec.disks[1]", "Duplicate value"],
        ),
        (
            disks(
                json!([{"name": "a", "claim": {"name": "c"}}, {"name": "b", "claim": {"name": "c"}}]),
            ),
            ["spec.disks", "two disks use the same claim"],
        ),
        (
            disks(json!([
                {"name": "a", "claim": {"name": "a"}, "bootOrder": 1},
                {"name": "b", "claim": {"name": "b"}, "bootOrder": 1},
            ])),
            ["spec.disks", "two disks have the same bootOrder"],
        ),
        (
            disks(many(7, "Sata")),
            ["spec.disks", "at most 6 disks can be on bus Sata"],
        ),
        (
            disks(many(21, "Virtio")),
            ["spec.disks", "must have at most 20 items"],
        ),
        (
            json!({"interfaces": [{"name": "a", "binding": "Slirp", "macAddress": "01:00:00:00:00:00"}]}),
            ["spec.interfaces[0].macAddress", "should match"],
        ),
        (
            json!({"interfaces": [{"name": "a"}]}),
            ["spec.interfaces[0].binding", "Required value"],
        ),
        (
            json!({"interfaces": [{"name": "a", "binding": "Magic"}]}),
            ["spec.interfaces[0].binding", "Unsupported value"],
        ),
    ]
}

fn many(count: usize, bus: &str) -> Value {
    let disk = |n| json!({"name": format!("d{n}"), "claim": {"name": format!("d{n}")}, "bus": bus});
    (0..count).map(disk).collect()
}

/// What is said of the first disk, and what the refusal says.
fn wrong_disks() -> Vec<(Value, [&'static str; 2])> {
    vec![
        (
            json!({"name": "Root"}),
            ["spec.disks[0].name", "should match"],
        ),
        (
            json!({"name": "x".repeat(51)}),
            ["spec.disks[0].name", "may not be more than 50 bytes"],
        ),
        (
            json!({"name": null}),
            ["spec.disks[0].name", "Required value"],
        ),
        (
            json!({"claim": null}),
            [
                "spec.disks[0]",
                "say exactly one of claim, cloudInit and ephemeral",
            ],
        ),
        (
            json!({"ephemeral": {"size": "1Gi"}}),
            [
                "spec.disks[0]",
                "say exactly one of claim, cloudInit and ephemeral",
            ],
        ),
        (
            json!({"claim": null, "ephemeral": {"size": "1.5Gi"}}),
            ["spec.disks[0].ephemeral.size", "should match"],
        ),
        (
            json!({"claim": {"name": "No_Claim"}}),
            ["spec.disks[0].claim.name", "should match"],
        ),
        (
            json!({"bus": "Ide"}),
            [
                "spec.disks[0].bus",
                "\"Virtio\", \"Scsi\", \"Sata\", \"Usb\"",
            ],
        ),
        (
            json!({"cache": "Unsafe"}),
            ["spec.disks[0].cache", "Unsupported value"],
        ),
        (
            json!({"shareable": true, "cache": "Writeback"}),
            ["spec.disks[0].shareable", "shareable needs cache None"],
        ),
        (
            json!({"claim": null, "ephemeral": {"size": "1Gi"}, "shareable": true}),
            [
                "spec.disks[0].shareable",
                "only a disk with a claim can be shareable",
            ],
        ),
        (
            json!({"io": "Native", "cache": "Writeback"}),
            ["spec.disks[0].io", "io Native needs cache None"],
        ),
        (
            json!({"blockSize": {"logical": 4096, "physical": 512}}),
            [
                "spec.disks[0].blockSize",
                "blockSize.logical must not be larger",
            ],
        ),
        (
            json!({"queues": 65}),
            ["spec.disks[0].queues", "less than or equal to 64"],
        ),
        (
            json!({"queues": 2, "bus": "Scsi"}),
            ["spec.disks[0].queues", "queues needs bus Virtio"],
        ),
        (
            json!({"iothread": true, "bus": "Sata"}),
            ["spec.disks[0].iothread", "iothread needs bus Virtio"],
        ),
        (
            json!({"bus": "Sata", "readOnly": true}),
            ["spec.disks[0].bus", "bus Sata has no read-only disks"],
        ),
        (
            json!({"bus": "Usb", "cache": "Writethrough"}),
            ["spec.disks[0].cache", "no effect on bus Usb"],
        ),
        (
            json!({"bus": "Usb", "blockSize": {"logical": 512, "physical": 4096}}),
            [
                "spec.disks[0].blockSize",
                "blockSize has no effect on bus Usb",
            ],
        ),
        (
            json!({"serial": "has space"}),
            ["spec.disks[0].serial", "should match"],
        ),
        (
            json!({"bootOrder": 0}),
            ["spec.disks[0].bootOrder", "greater than or equal to 1"],
        ),
        (
            json!({"boot_order": 1}),
            ["spec.disks[0].boot_order", "unknown field"],
        ),
        (
            json!({"claim": null, "cloudInit": {"userData": "a", "userDataFrom": {"secretName": "s"}}}),
            [
                "spec.disks[0].cloudInit",
                "say exactly one of userData and userDataFrom",
            ],
        ),
    ]
}

/// Offers a manifest to the API server, as `kubectl` does, and returns why it
/// was refused.
async fn refusal(client: &Client, manifest: &Value) -> anyhow::Result<Option<String>> {
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
    let mut cases = Vec::new();
    for (fields, expected) in wrong_specs() {
        cases.push((vm_object("wrong", fields), expected));
    }
    for (fields, expected) in wrong_disks() {
        let mut vm = vm_object("wrong", json!({}));
        let disk = vm["spec"]["disks"][0].as_object_mut().context("a disk")?;
        disk.extend(fields.as_object().context("fields")?.clone());
        cases.push((vm, expected));
    }
    let name = "a".repeat(53);
    cases.push((
        vm_object(&name, json!({})),
        [
            "metadata.name",
            "at most 52 characters: the pod is named after it",
        ],
    ));
    assert!(cases.len() >= 40, "{}", cases.len());

    let right = refusal(&cluster.client, &vm_object("right", json!({}))).await?;
    ensure!(
        right.is_none(),
        "what each case breaks is not right itself: {right:?}"
    );
    let mut unclear = Vec::new();
    for (manifest, expected) in cases {
        // A field that is null in a manifest is a field that is not there.
        let said = refusal(&cluster.client, &without_nulls(manifest.clone())).await?;
        let clear = said
            .as_deref()
            .is_some_and(|said| expected.iter().all(|part| said.contains(part)));
        if !clear {
            unclear.push(format!("{expected:?} for {}\n  {said:?}", manifest["spec"]));
        }
    }
    ensure!(unclear.is_empty(), "{}", unclear.join("\n"));
    Ok(())
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

#[tokio::test]
async fn a_disk_keeps_its_kind_of_source() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
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
