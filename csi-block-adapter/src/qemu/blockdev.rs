//! `-blockdev`: qemu's `BlockdevOptions` (qapi/block-core.json) for the two
//! drivers in use, fields spelled as qemu spells them.

use coracle_api::{
    machine::Disk,
    types::{CacheMode, DetectZeroes as Zeroes, DiscardMode},
};
use serde::Serialize;

use super::{DeviceFacts, Host, Kind, Place, decide, node_name, throttle};

/// A `-blockdev`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Blockdev {
    /// What opens the path.
    pub driver: Driver,
    /// `disk<index>`, which `-device` refers to as `drive`; of a disk with
    /// limits `disk<index>-device`.
    pub node_name: String,
    /// The path.
    pub filename: String,
    /// Host page cache.
    pub cache: Cache,
    /// How I/O is submitted.
    pub aio: Aio,
    /// What becomes of discards.
    pub discard: Discard,
    /// Whether runs of zeroes that the guest writes become discards.
    pub detect_zeroes: DetectZeroes,
    /// Whether the image is opened for reading only.
    pub read_only: bool,
    /// Whether qemu may fall back to reading only: never.
    pub auto_read_only: bool,
    /// qemu's image locks. On a device they are left to qemu: they belong to
    /// the node, and each container has a node of its own, so the device is
    /// kept with `O_EXCL` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locking: Option<OnOff>,
}

/// `driver` of a [`Blockdev`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// A block device.
    HostDevice,
    /// A file.
    File,
}

/// `cache` of a [`Blockdev`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cache {
    /// Past the host's page cache (`O_DIRECT`).
    pub direct: bool,
    /// Whether flushes of the guest are ignored: never.
    pub no_flush: bool,
}

/// `aio` of a [`Blockdev`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aio {
    /// A pool of threads.
    Threads,
    /// Linux native AIO.
    Native,
    /// Linux `io_uring`.
    IoUring,
}

/// `discard` of a [`Blockdev`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Discard {
    /// Dropped.
    Ignore,
    /// Passed on.
    Unmap,
}

/// `detect-zeroes` of a [`Blockdev`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DetectZeroes {
    /// Zeroes are written. Looking for them costs a pass over every write,
    /// and guests send discards by themselves.
    Off,
    /// They are written by a command of the device's.
    On,
    /// They become discards.
    Unmap,
}

/// A switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOff {
    /// On.
    On,
    /// Off.
    Off,
}

impl Cache {
    pub(super) fn of(disk: &Disk) -> Self {
        Self {
            direct: disk.cache == CacheMode::None,
            no_flush: false,
        }
    }
}

impl Discard {
    pub(super) fn of(disk: &Disk) -> Self {
        match disk.discard {
            DiscardMode::Unmap => Self::Unmap,
            DiscardMode::Ignore => Self::Ignore,
        }
    }
}

impl DetectZeroes {
    pub(super) fn of(disk: &Disk) -> Self {
        match disk.detect_zeroes {
            Zeroes::Ignore => Self::Off,
            Zeroes::WriteZeroes => Self::On,
            Zeroes::Unmap => Self::Unmap,
        }
    }
}

/// Name of the topmost node that opens a disk: the guest's device refers to
/// it, or the filter with the disk's limits.
pub(super) fn top_name(disk: &Disk, place: Place) -> String {
    if disk.throttle.is_some() {
        throttle::lower_name(place)
    } else {
        node_name(place.index)
    }
}

impl Blockdev {
    pub(super) fn new(disk: &Disk, place: Place, facts: &DeviceFacts, host: Host) -> Self {
        let (driver, locking) = match facts.kind {
            Kind::Block { .. } => (Driver::HostDevice, None),
            Kind::File => (Driver::File, Some(OnOff::On)),
        };
        Self {
            driver,
            node_name: top_name(disk, place),
            filename: facts.path.clone(),
            cache: Cache::of(disk),
            aio: decide::aio(disk, facts, host).0,
            discard: Discard::of(disk),
            detect_zeroes: DetectZeroes::of(disk),
            read_only: disk.read_only,
            auto_read_only: false,
            locking,
        }
    }

    /// The option's argument.
    #[must_use]
    #[expect(
        clippy::missing_panics_doc,
        reason = "strings, bools and enums always serialize"
    )]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, bools and enums always serialize")
    }
}
