//! The pod's volumes and where they appear in the `vm` container.

use coracle_api::names::{
    ANNOTATION_DESIRED, ANNOTATION_MACHINE, CLOUD_INIT_DIR, CONFIG_DIR, DESIRED_FILE,
    EPHEMERAL_DIR, KERNEL_DIR, MACHINE_FILE, RUN_DIR,
};
use coracle_block::claim::{Attachment, volume_name};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource, KeyToPath,
    ObjectFieldSelector, SecretVolumeSource, Volume, VolumeDevice, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::plan::{PlannedSource, VmPlan};

const CONFIG: &str = "config";
const RUN: &str = "run";
pub(super) const KERNEL: &str = "kernel";
/// Sockets and cloud-init seeds; counted in the memory overhead.
const RUN_SIZE: &str = "16Mi";

/// All volumes of the pod.
pub(super) fn volumes(plan: &VmPlan<'_>) -> Vec<Volume> {
    let of_disks = plan.disks.iter().filter_map(|planned| {
        let name = volume_name(&planned.disk.name);
        match &planned.source {
            PlannedSource::Claim(claim) => Some(claim.volume.clone()),
            PlannedSource::Ephemeral(size) => Some(empty_dir(name, None, size.to_string())),
            PlannedSource::CloudInit(data) => {
                let secret = data.user_data_from.as_ref()?;
                Some(user_data_secret(name, &secret.secret_name))
            }
        }
    });
    let kernel = plan.kernel.iter().map(|claim| Volume {
        name: KERNEL.into(),
        ..claim.volume.clone()
    });
    [
        config(),
        empty_dir(RUN.into(), Some("Memory"), RUN_SIZE.into()),
    ]
    .into_iter()
    .chain(of_disks)
    .chain(kernel)
    .chain(super::import::volumes(plan))
    .collect()
}

/// The raw block claims, as devices.
pub(super) fn devices(plan: &VmPlan<'_>) -> Vec<VolumeDevice> {
    let device = |source: &PlannedSource<'_>| match source {
        PlannedSource::Claim(claim) => match &claim.attachment {
            Attachment::Block(device) => Some(device.clone()),
            Attachment::Filesystem { .. } => None,
        },
        PlannedSource::Ephemeral(_) | PlannedSource::CloudInit(_) => None,
    };
    plan.disks
        .iter()
        .filter_map(|planned| device(&planned.source))
        .collect()
}

/// Everything else, as mounts.
pub(super) fn mounts(plan: &VmPlan<'_>) -> Vec<VolumeMount> {
    let of_disks = plan.disks.iter().filter_map(|planned| {
        let name = &planned.disk.name;
        match &planned.source {
            PlannedSource::Claim(claim) => match &claim.attachment {
                Attachment::Filesystem { mount, .. } => Some(VolumeMount {
                    // Only the importer writes to a disk that the guest reads.
                    read_only: planned.disk.read_only.then_some(true),
                    ..mount.clone()
                }),
                Attachment::Block(_) => None,
            },
            PlannedSource::Ephemeral(_) => Some(mount(
                &volume_name(name),
                &format!("{EPHEMERAL_DIR}/{name}"),
                false,
            )),
            PlannedSource::CloudInit(data) => data.user_data_from.as_ref().map(|_| {
                mount(
                    &volume_name(name),
                    &format!("{CLOUD_INIT_DIR}/{name}"),
                    true,
                )
            }),
        }
    });
    let kernel = plan.kernel.iter().map(|_| mount(KERNEL, KERNEL_DIR, true));
    [mount(CONFIG, CONFIG_DIR, true), mount(RUN, RUN_DIR, false)]
        .into_iter()
        .chain(of_disks)
        .chain(kernel)
        .collect()
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

pub(super) fn empty_dir(name: String, medium: Option<&str>, size: String) -> Volume {
    Volume {
        name,
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            size_limit: Some(Quantity(size)),
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
