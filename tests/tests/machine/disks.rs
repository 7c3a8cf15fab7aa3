//! Disks of every kind, looked at from both sides.

use std::path::{Path, PathBuf};

use coracle_api::names::VM_UID;
use coracle_tests::{Manifest, Node, Pattern, Run, disk, guest, vm};
use nix::sys::signal::Signal;
use serde_json::json;

#[test]
fn the_guest_writes_to_its_own_device_and_to_nothing_else() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let root = node.guest_disk("write-sector")?;
    let neighbour = node.disk("neighbour", &vec![0x5a; 1 << 20], 1 << 20)?;
    let (before, untouched) = (root.read()?, neighbour.read()?);
    let run = Run::start(&mut node.run(
        &vm("writer").boots_from("root"),
        &[("root", root.path())],
        &[],
    )?)?;
    run.wait_stdout("guest wrote its disk")?;
    run.signal(Signal::SIGINT)?;
    run.finish()?.expect_code(0)?;
    assert!(root.read()? == Pattern::on(&before), "the guest's disk");
    assert!(neighbour.read()? == untouched, "the disk next to it");
    node.expect_clean()
}

/// Boots the guest that looks at its other disks; what it says of them.
fn survey(
    node: &Node,
    manifest: &Manifest,
    volumes: &[(&str, &Path)],
) -> anyhow::Result<Vec<String>> {
    let boot = node.guest_disk("survey")?;
    let mut all = vec![("boot", boot.path())];
    all.extend(volumes);
    let run = Run::start(&mut node.run(manifest, &all, &[])?)?;
    let finished = run.finish()?.expect_code(0)?;
    let lines = finished
        .stdout
        .lines()
        .filter(|line| line.starts_with("disk "));
    Ok(lines.map(|line| line.trim_end().to_owned()).collect())
}

/// A first sector that says this where FAT has its label.
fn labelled(label: &[u8; 11]) -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[43..54].copy_from_slice(label);
    sector
}

#[test]
fn a_guest_sees_its_disks_in_order_and_cannot_write_to_a_read_only_one() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let data = node.disk("data", &labelled(b"DATA-DISK  "), 1 << 20)?;
    let tools = node.disk("tools", &labelled(b"TOOLS-DISK "), 1 << 20)?;
    let before = tools.read()?;
    let manifest = vm("surveyor")
        .boots_from("boot")
        .with_disk(disk("data", json!({"bootOrder": 2, "claim": {"name": "data"}})))
        .with_disk(disk(
            "tools",
            // Told to the guest, where the default would pause it.
            json!({"bootOrder": 3, "claim": {"name": "tools"}, "readOnly": true, "errorPolicy": "Report"}),
        ))
        .with_disk(disk("scratch", json!({"bootOrder": 4, "ephemeral": {"size": "8Mi"}, "cache": "Writeback"})))
        .with_claim("data", "Block", "1Mi")
        .with_claim("tools", "Block", "1Mi");
    let seen = survey(
        &node,
        &manifest,
        &[("data", data.path()), ("tools", tools.path())],
    )?;
    assert_eq!(
        seen,
        [
            "disk 1: DATA-DISK   writable",
            "disk 2: TOOLS-DISK  read-only",
            "disk 3: ........... writable",
        ]
    );
    assert!(tools.read()? == before, "a read-only disk was written to");
    node.expect_clean()
}

#[test]
fn the_guest_gets_a_cloud_init_seed() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let manifest = vm("seeded")
        .boots_from("boot")
        .with_disk(disk(
            "inline",
            json!({"bootOrder": 2, "cloudInit": {"userData": "#cloud-config\n{}\n"}, "errorPolicy": "Report"}),
        ))
        .with_disk(disk(
            "secret",
            json!({
                "bootOrder": 3,
                "errorPolicy": "Report",
                "cloudInit": {"userDataFrom": {"secretName": "seed"}, "networkData": "version: 2\n"},
            }),
        ))
        .with_document(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "seed"},
            "stringData": {"userdata": "#cloud-config\nhostname: seeded\n"},
        }));
    let seen = survey(&node, &manifest, &[])?;
    assert_eq!(seen.len(), 2, "{seen:?}");
    for (line, start) in seen.iter().zip(["disk 1: CIDATA", "disk 2: CIDATA"]) {
        assert!(line.starts_with(start), "{seen:?}");
    }
    node.expect_clean()
}

#[test]
fn every_bus_reaches_the_guest() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let names = ["virtio", "scsi", "sata"];
    let mut manifest = vm("buses").boots_from("boot");
    let mut devices = Vec::new();
    for (index, (name, bus)) in names
        .into_iter()
        .zip(["Virtio", "Scsi", "Sata"])
        .enumerate()
    {
        let mut label = *b"ON-        ";
        label[3..3 + name.len()].copy_from_slice(name.to_ascii_uppercase().as_bytes());
        devices.push(node.disk(name, &labelled(&label), 1 << 20)?);
        let fields = json!({"bus": bus, "bootOrder": index + 2, "claim": {"name": name}});
        manifest = manifest
            .with_disk(disk(name, fields))
            .with_claim(name, "Block", "1Mi");
    }
    let volumes: Vec<(&str, &Path)> = names
        .into_iter()
        .zip(devices.iter().map(coracle_tests::LoopDisk::path))
        .collect();
    let seen = survey(&node, &manifest, &volumes)?;
    for label in ["ON-VIRTIO", "ON-SCSI", "ON-SATA"] {
        assert!(
            seen.iter().any(|line| line.contains(label)),
            "{label}: {seen:?}"
        );
    }
    node.expect_clean()
}

/// A directory as a storage driver leaves it for the pod's `fsGroup`.
fn volume(node: &Node) -> anyhow::Result<PathBuf> {
    let volume = node.dir().join("volume");
    std::fs::create_dir(&volume)?;
    give(&volume, 0o2770)?;
    Ok(volume)
}

fn give(path: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::os::unix::fs::chown(path, None, Some(u32::try_from(VM_UID)?))?;
    Ok(std::fs::set_permissions(
        path,
        std::fs::Permissions::from_mode(mode),
    )?)
}

#[test]
fn a_filesystem_claim_gets_a_sparse_image_once_and_keeps_it() -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let volume = volume(&node)?;
    let data = || {
        vm("filed")
            .boots_from("boot")
            .with_disk(disk(
                "data",
                json!({"bootOrder": 2, "claim": {"name": "data"}, "cache": "Writeback"}),
            ))
            .with_claim("data", "Filesystem", "64Mi")
    };
    let seen = survey(&node, &data(), &[("data", &volume)])?;
    assert_eq!(seen, ["disk 1: ........... writable"]);
    let image = volume.join("disk.img");
    let made = std::fs::metadata(&image)?;
    assert!(
        made.len() > 32 << 20 && made.len() < 64 << 20,
        "{} bytes",
        made.len()
    );
    assert!(
        made.blocks() * 512 < 1 << 20,
        "{} blocks: not sparse",
        made.blocks()
    );

    // A label that only an image which is kept still has.
    let mut content = labelled(b"KEPT       ");
    content.resize(usize::try_from(made.len())?, 0);
    std::fs::write(&image, &content)?;
    let seen = survey(&node, &data(), &[("data", &volume)])?;
    assert_eq!(seen, ["disk 1: KEPT        writable"]);
    assert!(std::fs::read(&image)? == content, "the image was changed");
    node.expect_clean()
}

#[test]
fn a_guest_boots_from_the_image_in_a_filesystem_claim() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let volume = volume(&node)?;
    std::fs::copy(guest("hello-poweroff")?, volume.join("disk.img"))?;
    give(&volume.join("disk.img"), 0o660)?;
    let manifest = vm("filed")
        .with_disk(disk(
            "root",
            json!({"bootOrder": 1, "claim": {"name": "root"}, "cache": "Writeback"}),
        ))
        .with_claim("root", "Filesystem", "64Mi");
    let run = Run::start(&mut node.run(&manifest, &[("root", &volume)], &[])?)?;
    let finished = run.finish()?.expect_code(0)?;
    assert!(
        finished.stdout.contains("hello from the guest"),
        "{}",
        finished.stdout
    );
    node.expect_clean()
}
