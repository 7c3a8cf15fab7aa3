//! A disk in a container image that stays where it is.
#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each struct, with its `pub`, inside a function"
)]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::MemorySize;
use super::import::{FILE_PATH, IMAGE_REFERENCE};

/// A container image with a disk image in it (raw or qcow2), which the node mounts as an image volume and nobody writes to. Kubernetes 1.36 and newer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskImage {
    /// The image, as in a pod: registry, name, and a tag or a digest.
    #[schemars(length(min = 1, max = 512), regex(pattern = IMAGE_REFERENCE))]
    pub reference: String,
    /// Path of the file in the image; by default the only one in /disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = FILE_PATH))]
    pub path: Option<String>,
    /// When the node asks the registry, as in a pod: by default `Always` for the tag latest, else `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// Size of the disk, where it is to be larger than the image's: a whole number with the unit Mi, Gi or Ti. What is behind the image's end reads as zeroes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<MemorySize>,
}

/// When a node asks the registry for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum PullPolicy {
    /// At each start of the pod.
    Always,
    /// When it does not have the image.
    IfNotPresent,
    /// Not at all: it must have the image.
    Never,
}

impl PullPolicy {
    /// The word that a pod has for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}
