//! The pod's volumes and where they appear in the `vm` container.

use coracle_api::names::{
    ANNOTATION_DESIRED, ANNOTATION_MACHINE, CLOUD_INIT_DIR, CONFIG_DIR, DESIRED_FILE,
    EPHEMERAL_DIR, IMAGE_DIR, KERNEL_DIR, MACHINE_FILE, RUN_DIR,
};
use coracle_api::vm::{DiskImage, MemorySize, SecretSource};
use coracle_block::claim::{Attachment, volume_name};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource, ImageVolumeSource,
    KeyToPath, ObjectFieldSelector, SecretVolumeSource, Volume, VolumeDevice, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::plan::{PlannedDisk, PlannedSource, VmPlan, read_only};

const CONFIG: &str = "config";
const RUN: &str = "run";
pub(super) const KERNEL: &str = "kernel";
/// Sockets and cloud-init seeds; counted in the memory overhead.
const RUN_SIZE: &str = "16Mi";

/// All volumes of the pod.
pub(super) fn volumes(plan: &VmPlan<'_>) -> Vec<Volume> {
    let of_disks = plan.disks.iter().flat_map(of_disk);
    let kernel = plan.kernel.iter().map(|claim| Volume {
        name: KERNEL.into(),
        ..claim.volume.clone()
    });
    [
        config(),
        empty_dir(RUN.into(), Some("Memory"), Some(RUN_SIZE.into())),
    ]
    .into_iter()
    .chain(of_disks)
    .chain(kernel)
    .chain(super::import::volumes(plan))
    .collect()
}

fn of_disk(planned: &PlannedDisk<'_>) -> Vec<Volume> {
    let name = volume_name(&planned.disk.name);
    match &planned.source {
        PlannedSource::Claim(claim) => vec![claim.volume.clone()],
        PlannedSource::Ephemeral(size) => vec![empty_dir(name, None, Some(size.to_string()))],
        PlannedSource::Image(image) => {
            let overlay = overlay(planned, image);
            [image_volume(name, image)]
                .into_iter()
                .chain(overlay)
                .collect()
        }
        PlannedSource::CloudInit(data) => {
            let secret = data.user_data_from.as_ref();
            let volume = |secret: &SecretSource| user_data_secret(name, &secret.secret_name);
            secret.map(volume).into_iter().collect()
        }
    }
}

/// Pulled by the node with the secrets of the pod's service account, and
/// mounted read-only whatever the mount says.
fn image_volume(name: String, image: &DiskImage) -> Volume {
    Volume {
        name,
        image: Some(ImageVolumeSource {
            reference: Some(image.reference.clone()),
            pull_policy: image.pull_policy.map(|policy| policy.as_str().to_owned()),
        }),
        ..Volume::default()
    }
}

/// The volume with the overlay of a disk in an image. How large the image is
/// only the node knows; the overlay is never larger than the disk and its
/// tables, of which qcow2 has 10 bytes for each 64 KiB.
fn overlay(planned: &PlannedDisk<'_>, image: &DiskImage) -> Option<Volume> {
    let size = image.size.as_ref().and_then(MemorySize::bytes);
    let limit = size.map(|size| size.saturating_add(size / 4096 + (1 << 20)).to_string());
    (!read_only(planned.disk)).then(|| empty_dir(overlay_name(planned), None, limit))
}

fn overlay_name(planned: &PlannedDisk<'_>) -> String {
    format!("overlay-{}", planned.disk.name)
}

/// The raw block claims, as devices.
pub(super) fn devices(plan: &VmPlan<'_>) -> Vec<VolumeDevice> {
    let device = |source: &PlannedSource<'_>| match source {
        PlannedSource::Claim(claim) => match &claim.attachment {
            Attachment::Block(device) => Some(device.clone()),
            Attachment::Filesystem { .. } => None,
        },
        PlannedSource::Ephemeral(_) | PlannedSource::Image(_) | PlannedSource::CloudInit(_) => None,
    };
    plan.disks
        .iter()
        .filter_map(|planned| device(&planned.source))
        .collect()
}

/// Everything else, as mounts.
pub(super) fn mounts(plan: &VmPlan<'_>) -> Vec<VolumeMount> {
    let of_disks = plan.disks.iter().flat_map(mounts_of_disk);
    let kernel = plan.kernel.iter().map(|_| mount(KERNEL, KERNEL_DIR, true));
    [mount(CONFIG, CONFIG_DIR, true), mount(RUN, RUN_DIR, false)]
        .into_iter()
        .chain(of_disks)
        .chain(kernel)
        .collect()
}

fn mounts_of_disk(planned: &PlannedDisk<'_>) -> Vec<VolumeMount> {
    let name = &planned.disk.name;
    let volume = volume_name(name);
    let scratch = |volume: &str| mount(volume, &format!("{EPHEMERAL_DIR}/{name}"), false);
    match &planned.source {
        PlannedSource::Claim(claim) => match &claim.attachment {
            Attachment::Filesystem { mount, .. } => vec![VolumeMount {
                // Only the importer writes to a disk that the guest reads.
                read_only: planned.disk.read_only.then_some(true),
                ..mount.clone()
            }],
            Attachment::Block(_) => vec![],
        },
        PlannedSource::Ephemeral(_) => vec![scratch(&volume)],
        PlannedSource::Image(_) => {
            let overlay = (!read_only(planned.disk)).then(|| scratch(&overlay_name(planned)));
            [mount(&volume, &format!("{IMAGE_DIR}/{name}"), true)]
                .into_iter()
                .chain(overlay)
                .collect()
        }
        PlannedSource::CloudInit(data) => {
            let seed = data.user_data_from.as_ref();
            seed.map(|_| mount(&volume, &format!("{CLOUD_INIT_DIR}/{name}"), true))
                .into_iter()
                .collect()
        }
    }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// The two annotations as files: how the shim learns what to run and what is
/// wanted of it, without any access to the API.
fn config() -> Volume {
    let file = |path: &str, annotation: &str| DownwardAPIVolumeFile {
        path: path.into(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{annotation}']"),
            api_version: None,
        }),
        ..DownwardAPIVolumeFile::default()
    };
    Volume {
        name: CONFIG.into(),
        downward_api: Some(DownwardAPIVolumeSource {
            items: Some(vec![
                file(MACHINE_FILE, ANNOTATION_MACHINE),
                file(DESIRED_FILE, ANNOTATION_DESIRED),
            ]),
            ..DownwardAPIVolumeSource::default()
        }),
        ..Volume::default()
    }
}

pub(super) fn empty_dir(name: String, medium: Option<&str>, size: Option<String>) -> Volume {
    Volume {
        name,
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            size_limit: size.map(Quantity),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn user_data_secret(name: String, secret: &str) -> Volume {
    let key = "userdata";
    Volume {
        name,
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.into()),
            items: Some(vec![KeyToPath {
                key: key.into(),
                path: key.into(),
                ..KeyToPath::default()
            }]),
            // Only the VM's own group reads it (fsGroup).
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}
