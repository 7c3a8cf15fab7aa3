//! Disks: the block adapter's options, and the I/O threads they refer to.

use coracle_api::machine::{self as api, DiskSource, Firmware, Machine};
use coracle_api::types::DiskBus;
use coracle_block::qemu::{self as block, DeviceDriver, DiskOptions, Place};

use super::object::Object;
use crate::prepare::Found;

/// The switches of one disk.
#[derive(Debug)]
pub(crate) struct Disk {
    /// The thread that does its I/O, when it has one of its own.
    pub(crate) iothread: Option<Object>,
    /// What it is in the pod and in the guest.
    pub(crate) options: DiskOptions,
}

/// The switches of all disks of `machine`, in their order.
pub(crate) fn all(machine: &Machine, found: &Found) -> Vec<Disk> {
    let host = found.host(machine);
    let mut sata_port = 0;
    let mut disks = Vec::new();
    for (index, (found, boot_index)) in found.disks.iter().zip(boot_order(machine)).enumerate() {
        let place = Place { index, sata_port };
        sata_port += usize::from(found.disk.bus == DiskBus::Sata);
        let disk = api::Disk {
            boot_index,
            ..found.disk.clone()
        };
        let options = block::options(&disk, place, &found.facts, host);
        disks.push(Disk::from(options));
    }
    disks
}

impl From<DiskOptions> for Disk {
    fn from(options: DiskOptions) -> Self {
        let iothread = match &options.device.driver {
            DeviceDriver::VirtioBlkPci {
                iothread: Some(id), ..
            } => Some(Object::iothread(id)),
            DeviceDriver::VirtioBlkPci { iothread: None, .. }
            | DeviceDriver::ScsiHd { .. }
            | DeviceDriver::ScsiCd
            | DeviceDriver::ScsiBlock
            | DeviceDriver::IdeHd { .. }
            | DeviceDriver::IdeCd { .. }
            | DeviceDriver::UsbStorage => None,
        };
        Self { iothread, options }
    }
}

/// The disks' boot indices. When firmware is to boot and no disk has one, the
/// disks are tried in the manifest's order: `-boot strict=on` boots nothing
/// else, and a VM of one disk should not need to say which.
fn boot_order(machine: &Machine) -> impl Iterator<Item = Option<u32>> {
    let given = machine.disks.iter().any(|disk| disk.boot_index.is_some());
    let by_place = !given && matches!(machine.firmware, Firmware::Bios {});
    machine.disks.iter().zip(1..).map(move |(disk, place)| {
        let bootable = !matches!(disk.source, DiskSource::CloudInit { .. });
        if by_place {
            bootable.then_some(place)
        } else {
            disk.boot_index
        }
    })
}
