//! What csi-sanity does not look at: the bytes, the device as its user sees
//! it, and a driver that is killed.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::Context;
use coracle_test_csi::proto::volume_capability::{AccessMode, AccessType, BlockVolume};
use coracle_test_csi::proto::volume_content_source::{SnapshotSource, Type};
use coracle_test_csi::proto::{
    CapacityRange, ControllerExpandVolumeRequest, CreateSnapshotRequest, CreateVolumeRequest,
    DeleteSnapshotRequest, DeleteVolumeRequest, NodeExpandVolumeRequest, NodePublishVolumeRequest,
    NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, VolumeCapability,
    VolumeContentSource,
};
use tonic::Code;

use crate::kit::Driver;

const MIB: i64 = 1 << 20;

fn block() -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: 1 }),
        access_type: Some(AccessType::Block(BlockVolume {})),
    }
}

fn bytes(required: i64) -> CapacityRange {
    CapacityRange {
        required_bytes: required,
        limit_bytes: 0,
    }
}

/// Makes a volume of 8 MiB, and returns its identifier.
async fn create(
    driver: &Driver,
    name: &str,
    source: Option<VolumeContentSource>,
) -> anyhow::Result<String> {
    let request = CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(bytes(8 * MIB)),
        volume_capabilities: vec![block()],
        volume_content_source: source,
        ..CreateVolumeRequest::default()
    };
    let made = driver.controller().await?.create_volume(request).await?;
    Ok(made.into_inner().volume.context("a volume")?.volume_id)
}

/// Stages and publishes a volume as `target`.
async fn publish(driver: &Driver, id: &str, target: &Path, read_only: bool) -> anyhow::Result<()> {
    let mut node = driver.node().await?;
    let staging = driver.dir().join("staging").display().to_string();
    let request = NodeStageVolumeRequest {
        volume_id: id.to_owned(),
        staging_target_path: staging.clone(),
        volume_capability: Some(block()),
        ..NodeStageVolumeRequest::default()
    };
    node.node_stage_volume(request).await?;
    let request = NodePublishVolumeRequest {
        volume_id: id.to_owned(),
        staging_target_path: staging,
        target_path: target.display().to_string(),
        volume_capability: Some(block()),
        readonly: read_only,
        ..NodePublishVolumeRequest::default()
    };
    node.node_publish_volume(request).await?;
    Ok(())
}

async fn unpublish(driver: &Driver, id: &str, target: &Path) -> anyhow::Result<()> {
    let request = NodeUnpublishVolumeRequest {
        volume_id: id.to_owned(),
        target_path: target.display().to_string(),
    };
    driver.node().await?.node_unpublish_volume(request).await?;
    Ok(())
}

/// Unstages a volume and deletes it.
async fn delete(driver: &Driver, id: &str) -> anyhow::Result<()> {
    let request = NodeUnstageVolumeRequest {
        volume_id: id.to_owned(),
        staging_target_path: driver.dir().join("staging").display().to_string(),
    };
    driver.node().await?.node_unstage_volume(request).await?;
    let volume_id = id.to_owned();
    let request = DeleteVolumeRequest { volume_id };
    driver.controller().await?.delete_volume(request).await?;
    Ok(())
}

fn size(device: &Path) -> anyhow::Result<u64> {
    Ok(File::open(device)?.seek(SeekFrom::End(0))?)
}

#[tokio::test]
async fn a_published_device_outlives_its_driver_and_grows_under_its_user() -> anyhow::Result<()> {
    let Some(mut driver) = Driver::start()? else {
        return Ok(());
    };
    let id = create(&driver, "disk", None).await?;
    let target = driver.dir().join("target");
    publish(&driver, &id, &target, false).await?;
    let node = fs::metadata(&target)?;
    assert!(node.file_type().is_block_device());
    assert_eq!((node.uid(), node.gid(), node.mode() & 0o777), (0, 6, 0o660));

    let device = File::options().read(true).write(true).open(&target)?;
    device.write_all_at(b"before the restart", 4096)?;
    driver.replace()?;
    // The same request again is answered, and changes nothing.
    assert_eq!(create(&driver, "disk", None).await?, id);
    publish(&driver, &id, &target, false).await?;
    device.write_all_at(b"after the restart", 8192)?;

    let request = ControllerExpandVolumeRequest {
        volume_id: id.clone(),
        capacity_range: Some(bytes(24 * MIB)),
        ..ControllerExpandVolumeRequest::default()
    };
    let mut controller = driver.controller().await?;
    let grown = controller.controller_expand_volume(request).await?;
    assert!(grown.into_inner().node_expansion_required);
    assert_eq!(size(&target)?, 8 << 20, "nothing has told the node yet");
    let request = NodeExpandVolumeRequest {
        volume_id: id.clone(),
        volume_path: target.display().to_string(),
        ..NodeExpandVolumeRequest::default()
    };
    driver.node().await?.node_expand_volume(request).await?;
    assert_eq!(size(&target)?, 24 << 20);

    // In use, it is not deleted.
    let request = DeleteVolumeRequest {
        volume_id: id.clone(),
    };
    let refused = driver.controller().await?.delete_volume(request).await;
    assert_eq!(
        refused.err().map(|status| status.code()),
        Some(Code::FailedPrecondition)
    );
    drop(device);
    unpublish(&driver, &id, &target).await?;
    delete(&driver, &id).await?;
    assert_eq!(driver.leftovers(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_volume_from_a_snapshot_has_the_bytes_of_its_time() -> anyhow::Result<()> {
    let Some(driver) = Driver::start()? else {
        return Ok(());
    };
    let id = create(&driver, "original", None).await?;
    let target = driver.dir().join("target");
    publish(&driver, &id, &target, false).await?;
    let device = File::options().write(true).open(&target)?;
    device.write_all_at(b"first", 1 << 20)?;
    device.sync_all()?;
    let request = CreateSnapshotRequest {
        source_volume_id: id.clone(),
        name: "as it was".to_owned(),
        ..CreateSnapshotRequest::default()
    };
    let made = driver.controller().await?.create_snapshot(request).await?;
    let snapshot_id = made
        .into_inner()
        .snapshot
        .context("a snapshot")?
        .snapshot_id;
    device.write_all_at(b"later", 1 << 20)?;
    device.sync_all()?;

    let source = VolumeContentSource {
        r#type: Some(Type::Snapshot(SnapshotSource {
            snapshot_id: snapshot_id.clone(),
        })),
    };
    let copy = create(&driver, "copy", Some(source)).await?;
    let shown = driver.dir().join("copy");
    publish(&driver, &copy, &shown, true).await?;
    let mut text = [0; 5];
    let mut reader = File::open(&shown)?;
    reader.seek(SeekFrom::Start(1 << 20))?;
    reader.read_exact(&mut text)?;
    assert_eq!(&text, b"first");
    // Read-only is the device itself, not only the mount.
    let written = File::options().write(true).open(&shown);
    let written = written.and_then(|device| device.write_all_at(b"never", 0));
    assert!(written.is_err(), "a read-only device was written to");

    drop((reader, device));
    let request = DeleteSnapshotRequest { snapshot_id };
    driver.controller().await?.delete_snapshot(request).await?;
    for (id, target) in [(&id, &target), (&copy, &shown)] {
        unpublish(&driver, id, target).await?;
        delete(&driver, id).await?;
    }
    assert_eq!(driver.leftovers(), Vec::<String>::new());
    Ok(())
}
