//! What plays the VM's claims, and what may not.

use std::path::Path;
use std::process::Command;

use coracle_tests::{Manifest, Node, Run, disk, vm};
use serde_json::json;

use crate::refused::{CONFIG, HOST, refused};

/// A VM with a claim called `root`, and the claim.
fn claims(mode: &str, size: &str) -> Manifest {
    unclaimed().with_claim("root", mode, size)
}

fn unclaimed() -> Manifest {
    vm("web").with_disk(disk(
        "root",
        json!({"bootOrder": 1, "claim": {"name": "root"}}),
    ))
}

fn two_claims() -> Manifest {
    let data = disk("data", json!({"claim": {"name": "data"}}));
    claims("Block", "1Mi")
        .with_disk(data)
        .with_claim("data", "Block", "1Mi")
}

/// A run of a manifest with these volumes is refused.
fn refuses(
    node: &Node,
    manifest: &Manifest,
    volumes: &[(&str, &Path)],
    code: i32,
    words: &[&str],
) -> anyhow::Result<()> {
    refused(node, &mut node.run(manifest, volumes, &[])?, code, words)
}

#[test]
fn a_claim_that_cannot_be_used_is_refused() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let image = node.file("root.img", vec![0; 1 << 20])?;
    let root = [("root", Path::new(&image))];
    let words = ["PersistentVolumeClaim \"root\"", "add it"];
    refuses(&node, &unclaimed(), &root, CONFIG, &words)?;
    let words = ["volumeMode", "Tape", "Block", "Filesystem"];
    refuses(&node, &claims("Tape", "1Mi"), &root, CONFIG, &words)?;
    let words = ["1048576 bytes", "requests 1Gi", "truncate"];
    refuses(&node, &claims("Block", "1Gi"), &root, HOST, &words)
}

#[test]
fn a_claim_that_nothing_or_something_else_is_named_for_is_refused() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let image = node.file("root.img", vec![0; 1 << 20])?;
    let image = Path::new(&image);
    let block = claims("Block", "1Mi");
    let words = ["claim \"root\"", "nothing plays it", "--volume root=PATH"];
    refuses(&node, &block, &[], CONFIG, &words)?;
    let words = ["\"rot\"", "there is: root"];
    refuses(&node, &block, &[("rot", image)], CONFIG, &words)?;
    let words = ["\"root\" twice"];
    refuses(
        &node,
        &block,
        &[("root", image), ("root", image)],
        CONFIG,
        &words,
    )?;
    let words = ["plays both claims"];
    refuses(
        &node,
        &two_claims(),
        &[("root", image), ("data", image)],
        CONFIG,
        &words,
    )?;
    let file = node.file("web.yaml", block.text())?;
    let mut no_path = node.coracle(&["run", &file, "--volume", "root"])?;
    refused(&node, &mut no_path, CONFIG, &["CLAIM=PATH"])
}

#[test]
fn what_is_no_disk_plays_no_block_claim() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let image = node.file("root.img", vec![0; 1 << 20])?;
    let qcow = node.file("root.qcow2", [&b"QFI\xfb"[..], &[0; 4092]].concat())?;
    let odd = node.file("odd.img", vec![0; 1000])?;
    let directory = node.dir().join("directory");
    std::fs::create_dir(&directory)?;
    let nothing = node.dir().join("nothing");
    let cases: [(&Path, &[&str]); 5] = [
        (
            &nothing,
            &["\"root\"", "nothing does not exist", "truncate"],
        ),
        (Path::new("/dev/null"), &["/dev/null is a character device"]),
        (&directory, &["is a directory", "volumeMode Block"]),
        (Path::new(&qcow), &["qcow2", "qemu-img convert -O raw"]),
        (
            Path::new(&odd),
            &["1000 bytes", "512-byte sectors", "truncate"],
        ),
    ];
    for (path, words) in cases {
        refuses(
            &node,
            &claims("Block", "1Mi"),
            &[("root", path)],
            HOST,
            words,
        )?;
    }
    let words = ["volumeMode Filesystem", "directory"];
    let image = [("root", Path::new(&image))];
    refuses(&node, &claims("Filesystem", "64Mi"), &image, HOST, &words)
}

#[test]
fn a_device_that_the_host_has_mounted_is_refused() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let device = node.disk("mounted", &[], 16 << 20)?;
    let point = node.dir().join("point");
    std::fs::create_dir(&point)?;
    must(Command::new("mkfs.ext4").arg("-q").arg(device.path()))?;
    must(Command::new("mount").arg(device.path()).arg(&point))?;
    let name = device.path().display().to_string();
    let words = [
        "\"root\"",
        &name,
        "is mounted on this machine",
        "point",
        "unmount it first",
    ];
    let manifest = vm("web").boots_from("root");
    let command = node.run(&manifest, &[("root", device.path())], &[]);
    let finished = Run::start(&mut command?)?.finish();
    must(Command::new("umount").arg(&point))?;
    let finished = finished?.expect_code(HOST)?;
    finished.expect_said(&words)?;
    node.expect_clean()
}

fn must(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

#[test]
fn a_read_only_device_is_refused_to_a_writer_and_given_to_a_reader() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let device = node.guest_disk("hello-poweroff")?;
    device.set_read_only(true)?;
    let volumes = [("root", device.path())];
    let writer = vm("writer").boots_from("root");
    let name = device.path().display().to_string();
    let words = [&name, "is read-only", "readOnly: true"];
    refused(&node, &mut node.run(&writer, &volumes, &[])?, HOST, &words)?;

    let fields = json!({"bootOrder": 1, "claim": {"name": "root"}, "readOnly": true});
    let reader = vm("reader")
        .with_disk(disk("root", fields))
        .with_claim("root", "Block", "1Mi");
    let finished = Run::start(&mut node.run(&reader, &volumes, &[])?)?
        .finish()?
        .expect_code(0)?;
    assert!(
        finished.stdout.contains("hello from the guest"),
        "{}",
        finished.stdout
    );
    node.expect_clean()
}
