//! Where a disk's bytes are.

use serde::{Deserialize, Serialize};

/// Where a disk's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum DiskSource {
    /// A block device.
    Block {
        /// Path of the device node in the pod.
        path: String,
    },
    /// An image file in a mounted claim, raw format.
    File {
        /// Path of the file in the pod.
        path: String,
        /// When the file is not there, it is created sparse with this size.
        /// A file that is there is never changed by this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        create_bytes: Option<u64>,
    },
    /// An empty disk that ends with the pod.
    Ephemeral {
        /// Path of the file in the pod.
        path: String,
        /// Its size.
        size_bytes: u64,
    },
    /// A disk image in a mounted container image: only read, or under an
    /// overlay.
    Image {
        /// Where the container image is in the pod.
        root: String,
        /// Path of the file in it; without one, the only file in `disk`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// Directory in the pod for the overlay, which takes what the guest
        /// writes; none for a disk that is only read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        overlay: Option<String>,
        /// Size of the disk; without one, that of the image.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_bytes: Option<u64>,
    },
    /// A cloud-init NoCloud seed (a FAT volume labelled `CIDATA`).
    CloudInit {
        /// The user-data.
        user_data: CloudInitData,
        /// The network-config.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network_data: Option<CloudInitData>,
    },
}

/// Data for cloud-init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum CloudInitData {
    /// The text itself.
    Inline(String),
    /// Path in the pod of the file that holds it.
    Path(String),
}
