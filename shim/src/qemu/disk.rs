//! Disks: the block adapter's options, and the I/O threads they refer to.

use coracle_api::types::DiskBus;
use coracle_block::qemu::{self as block, DeviceDriver, Place};

use super::object::Object;
use super::switch::Switch;
use crate::prepare::FoundDisk;

/// The switches of one disk.
#[derive(Debug)]
pub(crate) struct Disk {
    /// The thread that does its I/O, when it has one of its own.
    pub(crate) iothread: Option<Object>,
    /// What it is in the pod.
    pub(crate) blockdev: Blockdev,
    /// What it is in the guest.
    pub(crate) device: DiskDevice,
}

/// `-blockdev`
#[derive(Debug)]
pub(crate) struct Blockdev(block::Blockdev);

/// `-device`, of a disk.
#[derive(Debug)]
pub(crate) struct DiskDevice(block::Device);

/// The switches of all disks, in their order.
pub(crate) fn all(found: &[FoundDisk], vcpus: u32) -> impl Iterator<Item = Disk> {
    let mut sata_port = 0;
    found
        .iter()
        .enumerate()
        .map(move |(index, FoundDisk { disk, facts })| {
            let place = Place { index, sata_port };
            sata_port += usize::from(disk.bus == DiskBus::Sata);
            let options = block::options(disk, place, facts, vcpus);
            let iothread = match &options.device.driver {
                DeviceDriver::VirtioBlkPci {
                    iothread: Some(id), ..
                } => Some(Object::iothread(id)),
                DeviceDriver::VirtioBlkPci { iothread: None, .. }
                | DeviceDriver::ScsiHd { .. }
                | DeviceDriver::IdeHd { .. }
                | DeviceDriver::UsbStorage => None,
            };
            Disk {
                iothread,
                blockdev: Blockdev(options.blockdev),
                device: DiskDevice(options.device),
            }
        })
}

impl Switch for Blockdev {
    fn name(&self) -> &'static str {
        "-blockdev"
    }

    fn value(&self) -> Option<String> {
        Some(self.0.to_json())
    }
}

impl Switch for DiskDevice {
    fn name(&self) -> &'static str {
        "-device"
    }

    fn value(&self) -> Option<String> {
        Some(self.0.to_argument())
    }
}
