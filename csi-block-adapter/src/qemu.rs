//! qemu's options for a disk: a pure function of the machine description and
//! of what was found at the disk's path.
//!
//! `-blockdev` names the protocol node itself (`host_device`, `file`), without
//! a `raw` node on top: a raw node only adds an offset and a size, which no
//! disk here has, and costs a layer per request. Formats are never probed by
//! qemu: whatever a guest writes into its disk stays bytes.

mod blockdev;
mod check;
mod decide;
mod device;
mod image;
mod throttle;

use std::num::NonZeroU32;

use coracle_api::{
    machine::Disk,
    types::{DiscardMode, DiskBus, DiskType},
};

pub use self::{
    blockdev::{Aio, Blockdev, Cache, DetectZeroes, Discard, Driver, OnOff},
    check::{Impossible, NotLun, check, check_lun},
    decide::{decisions, io_uring},
    device::{Device, DeviceDriver, OnError},
    image::{Image, Qcow2},
    throttle::{Limits, Throttling},
};
use crate::{
    device::{DeviceFacts, Discard as DeviceDiscard, Kind},
    uring::NoIoUring,
};

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

/// What qemu has to work with, whatever the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The guest's virtual CPUs.
    pub vcpus: u32,
    /// Whether qemu can use `io_uring` here ([`crate::uring::probe`]).
    pub io_uring: Result<(), NoIoUring>,
}

/// The options of a disk, in the order in which qemu needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// `-blockdev <blockdev.to_json()>`: what is read and written, of a disk
    /// in a container image the overlay, where there is one.
    pub blockdev: Blockdev,
    /// `-blockdev` before and behind it, when the disk is in a container image
    /// that is not simply read.
    pub image: Option<Image>,
    /// `-object` and `-blockdev` on top, when the disk has limits.
    pub throttling: Option<Throttling>,
    /// `-device <device.to_argument()>`
    pub device: Device,
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
pub fn options(disk: &Disk, place: Place, facts: &DeviceFacts, host: Host) -> DiskOptions {
    let (blockdev, image) = image::nodes(disk, place, facts, host);
    DiskOptions {
        blockdev,
        image,
        throttling: disk
            .throttle
            .map(|throttle| Throttling::new(&throttle, disk, place)),
        device: Device::new(disk, place, facts, host.vcpus),
    }
}

impl DiskOptions {
    /// qemu's arguments: switch and value in turn. An I/O thread that the
    /// device refers to is not among them.
    #[must_use]
    pub fn to_arguments(&self) -> Vec<String> {
        let (below, above) = self.image.as_ref().map(Image::to_json).unwrap_or_default();
        let nodes = below
            .into_iter()
            .chain([self.blockdev.to_json()])
            .chain(above);
        let mut arguments: Vec<String> = nodes
            .flat_map(|node| ["-blockdev".to_owned(), node])
            .collect();
        if let Some(throttling) = &self.throttling {
            arguments.extend(["-object".to_owned(), throttling.group_json()]);
            arguments.extend(["-blockdev".to_owned(), throttling.filter_json()]);
        }
        arguments.extend(["-device".to_owned(), self.device.to_argument()]);
        arguments
    }
}

/// Name of the node that the guest's device, errors and resizing go to:
/// `disk<index>`. It is the topmost one, so that it is the same with limits
/// and without.
#[must_use]
pub fn node_name(index: usize) -> String {
    format!("disk{index}")
}

/// The disk that a node name of [`node_name`] stands for.
#[must_use]
pub fn index_of(node_name: &str) -> Option<usize> {
    node_name.strip_prefix("disk")?.parse().ok()
}

/// Sector sizes as the guest sees them; `None` where qemu's own 512 holds.
///
/// Without a wish in the manifest these are the device's: a 4Kn device whose
/// guest wrote 512 bytes at a time would have qemu read, change and write
/// back, which is slow and not safe against a power cut.
fn block_sizes(disk: &Disk, facts: &DeviceFacts) -> (Option<u32>, Option<u32>) {
    // A drive reads sectors of 2048 bytes; a logical unit has its own.
    if disk.disk_type != DiskType::Disk {
        return (None, None);
    }
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
    let shown = disk.discard == DiscardMode::Unmap
        && disk.disk_type == DiskType::Disk
        && matches!(disk.bus, DiskBus::Virtio | DiskBus::Scsi);
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
