//! The importer's image, run by a container runtime as its own user and within
//! the memory that an import may use; and what `coracle run` says of disks that
//! are to be filled.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use anyhow::ensure;
use coracle_tests::{LoopDisk, Node, Run, disk, guest, vm};
use serde_json::json;

use crate::refused::{CONFIG, refused};

const IMAGE: &str = concat!("coracle.dev/importer:", env!("CARGO_PKG_VERSION"));
/// The image's user and group: see `coracle_api::names::VM_UID`.
const VM_GID: u32 = 107;
/// What an import may use at most.
const MEMORY: &str = "67108864";

/// A `ctr` command for the node's containerd.
fn ctr(node: &Node, arguments: &[&str]) -> Command {
    let mut command = Command::new("ctr");
    let socket = node.state().join("containerd/containerd.sock");
    command.arg("--address").arg(socket).args(arguments);
    command
}

/// Imports the image `disk.img.gz` of the node's directory in a container.
fn import(node: &Node, number: u32, target: &LoopDisk) -> anyhow::Result<Run> {
    let device = target.path().display().to_string();
    let source = format!(
        "type=bind,src={},dst=/source,options=rbind:ro",
        node.dir().display()
    );
    let name = format!("coracle-import-{}-{number}", std::process::id());
    let mut command = ctr(node, &["run", "--rm", "--read-only", "--seccomp"]);
    command
        .args(["--cgroup", &name, "--memory-limit", MEMORY])
        .args(["--device", &device, "--mount", &source])
        .args([IMAGE, &name, "/usr/bin/coracle-block", "import"])
        .args(["/source/disk.img.gz", &device]);
    Run::start(&mut command)
}

#[test]
fn the_importers_image_fills_a_device_that_a_vm_then_boots_from() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let archive = Node::image_archive("importer")?;
    // A VM that stays keeps the private containerd.
    let other = node.guest_disk("echo")?;
    let manifest = vm("other").boots_from("root");
    let mut run = node.run(&manifest, &[("root", other.path())], &["--detach"])?;
    Run::start(&mut run)?.finish()?.expect_code(0)?;
    let archive = archive.display().to_string();
    let loaded = ctr(&node, &["images", "import", &archive]).output()?;
    ensure!(
        loaded.status.success(),
        "{}",
        String::from_utf8_lossy(&loaded.stderr)
    );

    let image = fs::read(guest("hello-poweroff")?)?;
    node.file("disk.img", &image)?;
    let packed = Command::new("gzip")
        .arg(node.dir().join("disk.img"))
        .status()?;
    ensure!(packed.success(), "gzip failed");
    let target = node.disk("target", &[], 1 << 20)?;
    chown(target.path(), Some(0), Some(VM_GID))?;
    fs::set_permissions(target.path(), fs::Permissions::from_mode(0o660))?;
    let said = import(&node, 1, &target)?.finish()?.expect_code(0)?;
    ensure!(said.stdout.contains("is filled: raw"), "{}", said.stdout);
    let mut wanted = image;
    wanted.resize(1 << 20, 0);
    ensure!(target.read()? == wanted, "the disk is not the image");

    // What is there now is a disk, and is left alone.
    let said = import(&node, 2, &target)?.finish()?.expect_code(2)?;
    ensure!(
        said.stderr.contains("already holds data"),
        "{}",
        said.stderr
    );
    node.call(&["stop", "other"])?.expect_code(0)?;
    let manifest = vm("filled").boots_from("root");
    let run = Run::start(&mut node.run(&manifest, &[("root", target.path())], &[])?)?;
    let said = run.finish()?.expect_code(0)?;
    ensure!(said.stdout.contains("hello"), "{}", said.stdout);
    node.expect_clean()
}

#[test]
fn one_machine_says_how_to_fill_a_disk_by_hand() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let target = node.guest_disk("hello-poweroff")?;
    let url = "https://example.org/disk.qcow2?signature=x";
    let claim = json!({"name": "root", "from": {"http": {"url": url}}});
    let unclaimed = vm("web").with_disk(disk("root", json!({"bootOrder": 1, "claim": claim})));
    let manifest = unclaimed.clone().with_claim("root", "Block", "1Mi");
    let mut run = node.run(&manifest, &[("root", target.path())], &[])?;
    let words = [
        "disk \"root\" is to be filled from https://example.org/disk.qcow2, ",
        "coracle-block import",
    ];
    refused(&node, &mut run, CONFIG, &words)?;

    // What only a node mounts is refused as well.
    let image = json!({"bootOrder": 1, "image": {"reference": "example.org/vm:1"}});
    let in_image = vm("web").with_disk(disk("root", image));
    let mut run = node.run(&in_image, &[], &[])?;
    let words = [
        "disk \"root\" is in image example.org/vm:1, which a cluster's node mounts",
        "coracle-block import docker://example.org/vm:1",
    ];
    refused(&node, &mut run, CONFIG, &words)?;

    // Who has filled it says so on the claim.
    let manifest = unclaimed.with_document(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "root", "annotations": {"coracle.dev/imported": "by hand"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
                 "resources": {"requests": {"storage": "1Mi"}}},
    }));
    let run = Run::start(&mut node.run(&manifest, &[("root", target.path())], &[])?)?;
    let said = run.finish()?.expect_code(0)?;
    ensure!(said.stdout.contains("hello"), "{}", said.stdout);
    node.expect_clean()
}
