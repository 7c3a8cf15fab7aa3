//! qemu's options for a disk: a pure function of the machine description and
//! of what was found at the disk's path.
//!
//! `-blockdev` names the protocol node itself (`host_device`, `file`), without
//! a `raw` node on top: a raw node only adds an offset and a size, which no
//! disk here has, and costs a layer per request. Formats are never probed:
//! whatever a guest writes into its disk stays bytes.

mod blockdev;
mod device;

use std::num::NonZeroU32;

use coracle_api::{
    machine::Disk,
    types::{CacheMode, DiscardMode, DiskBus, IoMode},
};

pub use self::{
    blockdev::{Aio, Blockdev, Cache, DetectZeroes, Discard, Driver, OnOff},
    device::{Device, DeviceDriver, OnError},
};
use crate::device::{DeviceFacts, Discard as DeviceDiscard, Kind};

/// Ports of q35's built-in AHCI controller: `ide.0` to `ide.5`.
pub const SATA_PORTS: usize = 6;
/// More virtio queues cost memory and bring nothing below the fastest disks.
pub const MAX_QUEUES: u32 = 16;
/// The largest sector size the guest is shown (that of the manifest).
const MAX_BLOCK_SIZE: u32 = 32768;
/// The sector size that every guest can read.
const SECTOR: u32 = 512;

/// Where a disk goes in its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its place among the disks, from 0: in `disk<index>`, `iothread<index>`.
    pub index: usize,
    /// For a SATA disk, its port: its place among the SATA disks, from 0.
    pub sata_port: usize,
}

/// Both options of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// `-blockdev <blockdev.to_json()>`
    pub blockdev: Blockdev,
    /// `-device <device.to_argument()>`
    pub device: Device,
}

/// What a disk asks for and qemu does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// Native AIO through the page cache.
    #[error("io: Native needs cache: None, the disk has cache: {cache:?}")]
    NativeWithoutDirect {
        /// The cache mode.
        cache: CacheMode,
    },
    /// An I/O thread on a bus whose controller does the I/O.
    #[error("a disk with an I/O thread of its own needs bus: Virtio, this one has bus: {bus:?}")]
    IothreadOnBus {
        /// The bus.
        bus: DiskBus,
    },
    /// Queues on a bus that has none per disk.
    #[error("queues need bus: Virtio, the disk has bus: {bus:?}")]
    QueuesOnBus {
        /// The bus.
        bus: DiskBus,
    },
    /// A read-only SATA disk, which ATA does not know.
    #[error("a read-only disk cannot have bus: Sata: use bus: Virtio, Scsi or Usb")]
    ReadOnlySata,
    /// A SATA disk with sectors other than 512 bytes.
    #[error("a disk with bus: Sata has logical sectors of 512 bytes, not {logical}")]
    SectorsOnSata {
        /// The size that was asked for.
        logical: u32,
    },
    /// Sector sizes on a USB disk: qemu's usb-storage takes and forgets them.
    #[error("blockSize cannot be set with bus: Usb: use bus: Virtio or Scsi")]
    BlockSizeOnUsb,
    /// A USB disk without a write cache: qemu's usb-storage takes and forgets
    /// that as well (seen with qemu 7.2).
    #[error("cache: Writethrough cannot be had with bus: Usb: use bus: Virtio, Scsi or Sata")]
    WritethroughOnUsb,
    /// More SATA disks than ports.
    #[error("disk {disk:?} is one more than the {SATA_PORTS} that bus: Sata has room for")]
    SataFull {
        /// Name of the first disk without a port.
        disk: String,
    },
}

/// Refuses a disk whose fields do not go together.
pub fn check(disk: &Disk) -> Result<(), Impossible> {
    let bus = disk.bus;
    if disk.io == IoMode::Native && disk.cache != CacheMode::None {
        return Err(Impossible::NativeWithoutDirect { cache: disk.cache });
    }
    if disk.iothread && bus != DiskBus::Virtio {
        return Err(Impossible::IothreadOnBus { bus });
    }
    if disk.queues.is_some() && bus != DiskBus::Virtio {
        return Err(Impossible::QueuesOnBus { bus });
    }
    if disk.read_only && bus == DiskBus::Sata {
        return Err(Impossible::ReadOnlySata);
    }
    if disk.cache == CacheMode::Writethrough && bus == DiskBus::Usb {
        return Err(Impossible::WritethroughOnUsb);
    }
    match disk.block_size {
        Some(_) if bus == DiskBus::Usb => Err(Impossible::BlockSizeOnUsb),
        Some(size) if bus == DiskBus::Sata && size.logical != SECTOR => {
            Err(Impossible::SectorsOnSata {
                logical: size.logical,
            })
        }
        _ => Ok(()),
    }
}

/// Gives every disk of a machine its place.
pub fn places(disks: &[Disk]) -> Result<Vec<Place>, Impossible> {
    let mut sata_port = 0;
    let place = |(index, disk): (usize, &Disk)| {
        let place = Place { index, sata_port };
        if disk.bus == DiskBus::Sata {
            if sata_port == SATA_PORTS {
                return Err(Impossible::SataFull {
                    disk: disk.name.clone(),
                });
            }
            sata_port += 1;
        }
        Ok(place)
    };
    disks.iter().enumerate().map(place).collect()
}

/// The options for a disk that [`check`] lets pass.
///
/// The path is that of the facts, so a cloud-init disk is described by the
/// facts of the seed file that was made for it.
#[must_use]
pub fn options(disk: &Disk, place: Place, facts: &DeviceFacts, vcpus: u32) -> DiskOptions {
    DiskOptions {
        blockdev: Blockdev::new(disk, place, facts),
        device: Device::new(disk, place, facts, vcpus),
    }
}

/// Sector sizes as the guest sees them; `None` where qemu's own 512 holds.
///
/// Without a wish in the manifest these are the device's: a 4Kn device whose
/// guest wrote 512 bytes at a time would have qemu read, change and write
/// back, which is slow and not safe against a power cut.
fn block_sizes(disk: &Disk, facts: &DeviceFacts) -> (Option<u32>, Option<u32>) {
    let (logical, physical) = match disk.block_size {
        Some(size) => (size.logical, size.physical),
        None => (facts.logical_block_size, facts.physical_block_size),
    };
    let shown = |size: u32| {
        (size.is_power_of_two() && (SECTOR + 1..=MAX_BLOCK_SIZE).contains(&size)).then_some(size)
    };
    let logical = match disk.bus {
        DiskBus::Virtio | DiskBus::Scsi => shown(logical),
        // ATA addresses sectors of 512 bytes, whatever the device has.
        DiskBus::Sata => None,
        // usb-storage does not hand them on to its disk.
        DiskBus::Usb => return (None, None),
    };
    let physical = shown(physical).filter(|size| *size >= logical.unwrap_or(SECTOR));
    (logical, physical.or(logical))
}

/// As many queues as virtual CPUs, unless the manifest wants fewer.
fn queues(disk: &Disk, vcpus: u32) -> NonZeroU32 {
    let wanted = disk.queues.map_or(vcpus, u32::from);
    let queues = wanted.min(vcpus).min(MAX_QUEUES);
    NonZeroU32::new(queues).unwrap_or(NonZeroU32::MIN)
}

/// The unit in which discards are worth sending, where that is known, fits
/// the sectors that the guest sees, and can be shown to it: ATA has none, and
/// usb-storage does not hand it on.
fn discard_granularity(disk: &Disk, facts: &DeviceFacts, logical: Option<u32>) -> Option<u32> {
    let logical = logical.unwrap_or(SECTOR);
    let shown =
        disk.discard == DiscardMode::Unmap && matches!(disk.bus, DiskBus::Virtio | DiskBus::Scsi);
    match facts.discard {
        DeviceDiscard::Supported { granularity_bytes } => {
            let fits = granularity_bytes > logical && granularity_bytes.is_multiple_of(logical);
            (shown && fits).then_some(granularity_bytes)
        }
        DeviceDiscard::Unknown | DeviceDiscard::Unsupported => None,
    }
}

#[cfg(test)]
mod tests;
