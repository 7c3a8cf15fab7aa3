//! Claims that are filled before their VM first starts: which are to be, what
//! the importer is told, and how a claim shows that it was.
//!
//! The annotation [`ANNOTATION_IMPORTED`] on a claim says that it was filled.
//! It is written when an importer has ended well, and before the pod that
//! shows this is given up. Where it could not be written (the pod and its node
//! went at once, say) the next importer finds data that it did not write, and
//! refuses: nothing is ever filled twice.

use coracle_api::machine::DiskSource;
use coracle_api::names::{
    ANNOTATION_IMPORTED, FROM_BLOCK_DIR, FROM_DIR, IMPORT_CONTAINER, IMPORT_DIR, TERMINATION_LOG,
};
use coracle_api::vm::{Disk, ImportSource};
use coracle_block::claim::{Attachment, ClaimPlan};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, VolumeDevice, VolumeMount};
use serde_json::json;

use crate::template::ClaimAct;

/// What a disk's claim is filled with by its pod.
#[derive(Debug)]
pub struct Import<'a> {
    /// The source as the manifest has it.
    pub from: &'a ImportSource,
    /// The claim that is read, when the source is one.
    pub claim: Option<ClaimPlan>,
}

/// What the disk's claim is still to be filled with.
#[must_use]
pub fn pending<'a>(
    disk: &'a Disk,
    claim: Option<&PersistentVolumeClaim>,
) -> Option<&'a ImportSource> {
    disk.from().filter(|_| claim.and_then(imported).is_none())
}

/// What a claim was filled with.
#[must_use]
pub fn imported(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotations = claim.metadata.annotations.as_ref()?;
    annotations.get(ANNOTATION_IMPORTED).map(String::as_str)
}

/// Writes on a claim what it was filled with, unless it says so.
#[must_use]
pub fn note(found: &PersistentVolumeClaim, from: &str) -> Option<ClaimAct> {
    if imported(found).is_some() {
        return None;
    }
    Some(ClaimAct::Change {
        claim: found.metadata.name.clone()?,
        patch: json!({"metadata": {
            "uid": found.metadata.uid,
            "resourceVersion": found.metadata.resource_version,
            "annotations": {ANNOTATION_IMPORTED: from},
        }}),
    })
}

/// The name of the init container that fills a disk.
#[must_use]
pub fn container_name(disk: &str) -> String {
    format!("{IMPORT_CONTAINER}{disk}")
}

/// The name of the volume with the claim that a disk is filled from.
#[must_use]
pub(crate) fn source_volume(disk: &str) -> String {
    format!("from-{disk}")
}

/// A claim that is planned for a disk, as the source it is filled from: in the
/// importer alone, and in the volume called `volume`.
#[must_use]
pub(crate) fn as_source(mut plan: ClaimPlan, disk: &str, volume: &str) -> ClaimPlan {
    volume.clone_into(&mut plan.volume.name);
    let path = match &plan.attachment {
        Attachment::Block(_) => format!("{FROM_BLOCK_DIR}/{disk}"),
        Attachment::Filesystem { .. } => format!("{FROM_DIR}/{disk}"),
    };
    match (&mut plan.attachment, &mut plan.source) {
        (Attachment::Filesystem { mount, .. }, DiskSource::File { path: image, .. }) => {
            let file = image.strip_prefix(&mount.mount_path).unwrap_or_default();
            *image = format!("{path}{file}");
            *mount = VolumeMount {
                name: volume.to_owned(),
                mount_path: path,
                ..mount.clone()
            };
        }
        (Attachment::Block(device), source) => {
            *source = DiskSource::Block { path: path.clone() };
            *device = VolumeDevice {
                name: volume.to_owned(),
                device_path: path,
            };
        }
        (Attachment::Filesystem { .. }, _) => {}
    }
    plan
}

/// What the importer is told of a disk whose claim is in the pod as `target`.
#[must_use]
pub(crate) fn arguments(disk: &str, import: &Import<'_>, target: &DiskSource) -> Vec<String> {
    let mut words = vec![
        "import".to_owned(),
        source(import),
        path(target).to_owned(),
        "--disk".to_owned(),
        disk.to_owned(),
        "--termination-log".to_owned(),
        TERMINATION_LOG.to_owned(),
        "--record".to_owned(),
        match target {
            // In the claim itself, where it lives as long as the image does.
            DiskSource::File { path, .. } => format!("{path}.imported"),
            _ => format!("{IMPORT_DIR}/{disk}"),
        },
    ];
    if let DiskSource::File {
        create_bytes: Some(bytes),
        ..
    } = target
    {
        words.extend(["--size".to_owned(), bytes.to_string()]);
    }
    let http = import.from.http.as_ref();
    if let Some(checksum) = http.and_then(|http| http.checksum.clone()) {
        words.extend(["--checksum".to_owned(), checksum]);
    }
    if import.claim.is_some() {
        // A guest wrote it: what looks like an image in it is data.
        words.push("--raw".to_owned());
    }
    words
}

fn source(import: &Import<'_>) -> String {
    let from = import.from;
    if let Some(http) = &from.http {
        return http.url.clone();
    }
    if let Some(image) = &from.image {
        let path = image.path.as_ref();
        let path = path.map(|path| format!("#{path}")).unwrap_or_default();
        return format!("docker://{}{path}", image.reference);
    }
    let claim = import.claim.as_ref();
    claim.map_or_else(String::new, |claim| path(&claim.source).to_owned())
}

fn path(source: &DiskSource) -> &str {
    match source {
        DiskSource::Block { path }
        | DiskSource::File { path, .. }
        | DiskSource::Ephemeral { path, .. } => path,
        DiskSource::Image { .. } | DiskSource::CloudInit { .. } => "",
    }
}
