//! What is known of a disk's device or file.

use serde::Serialize;

use super::image::ImageFacts;

/// What was found at a disk's path: all that decides qemu's options beside the
/// machine description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceFacts {
    /// The path it was found at, and that qemu is to open.
    pub path: String,
    /// Device or file.
    #[serde(flatten)]
    pub kind: Kind,
    /// Size in bytes; a multiple of 512, and not 0.
    pub size_bytes: u64,
    /// The unit of addressing in bytes.
    pub logical_block_size: u32,
    /// The unit the device writes at once, in bytes.
    pub physical_block_size: u32,
    /// Whether the device turns; `None` where sysfs does not say.
    pub rotational: Option<bool>,
    /// Whether the device takes discards.
    pub discard: Discard,
    /// Whether the device or file system refuses writes.
    pub read_only: bool,
    /// The kernel's number for this use of the device node (`diskseq`), which
    /// another disk under the same numbers does not have; Linux 5.15 and newer.
    pub disk_sequence: Option<u64>,
    /// What the SCSI layer says of a block device.
    pub scsi: ScsiFacts,
    /// What is known of it when it is an image in a container image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageFacts>,
}

/// What the SCSI layer says of a block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScsiFacts {
    /// Version of the generic SCSI interface (`SG_GET_VERSION_NUM`); `None`
    /// when the device does not have it.
    pub sg_version: Option<u32>,
    /// SCSI peripheral device type, from sysfs; 0 is a disk.
    pub peripheral_type: Option<u8>,
    /// Whether it is a partition, and so only a part of a logical unit.
    pub partition: bool,
}

/// What a disk's bytes are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind")]
pub enum Kind {
    /// A block device.
    Block {
        /// Major number.
        major: u64,
        /// Minor number.
        minor: u64,
    },
    /// An image file: a raw one, or one in a container image.
    File,
}

/// Whether a device takes discards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "support", rename_all_fields = "camelCase")]
pub enum Discard {
    /// sysfs does not say, or it is a file, where the file system decides.
    Unknown,
    /// It does not.
    Unsupported,
    /// It does.
    Supported {
        /// Smallest unit that is freed, in bytes.
        granularity_bytes: u32,
    },
}
