//! `-device`: everything the guest sees but its disks, properties spelled as
//! qemu spells them.

use coracle_api::machine::Interface;
use coracle_api::types::InterfaceModel;
use serde::Serialize;

use super::netdev;
use super::pci;
use super::switch::{Switch, json};

/// Ports of the USB controller; qemu's upper bound.
pub(crate) const USB_PORTS: usize = 15;

/// `-device`
#[derive(Clone, Debug, Serialize)]
#[serde(
    tag = "driver",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub(crate) enum Device {
    /// The first serial port: ttyS0, COM1.
    IsaSerial {
        id: &'static str,
        chardev: &'static str,
        index: u32,
    },
    /// Where the guest's kernel tells that it panicked (ACPI `QEMU0001`).
    Pvpanic {},
    /// The host's entropy.
    VirtioRngPci { id: &'static str, addr: String },
    /// Tells the guest's memory use, and lets it give free pages back.
    VirtioBalloonPci {
        id: &'static str,
        free_page_reporting: bool,
        addr: String,
    },
    /// The SCSI controller.
    VirtioScsiPci { id: &'static str, addr: String },
    /// The USB controller, with ports for USB 2 and 3.
    QemuXhci {
        id: &'static str,
        p2: usize,
        p3: usize,
        addr: String,
    },
    /// A virtio network card.
    VirtioNetPci(Nic),
    /// An Intel 82574L.
    E1000e(Nic),
}

/// A network card.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Nic {
    id: String,
    netdev: String,
    mac: String,
    /// No network boot ROM: the firmware boots disks.
    romfile: &'static str,
    addr: String,
}

impl Device {
    pub(crate) fn serial(chardev: &'static str) -> Self {
        Self::IsaSerial {
            id: "com1",
            chardev,
            index: 0,
        }
    }

    pub(crate) fn panic_notifier() -> Self {
        Self::Pvpanic {}
    }

    pub(crate) fn rng() -> Self {
        Self::VirtioRngPci {
            id: "rng0",
            addr: pci::addr(pci::RNG),
        }
    }

    pub(crate) fn balloon() -> Self {
        let addr = pci::addr(pci::BALLOON);
        Self::VirtioBalloonPci {
            id: "balloon0",
            free_page_reporting: true,
            addr,
        }
    }

    /// Disks refer to it by `scsi0.0`.
    pub(crate) fn scsi() -> Self {
        Self::VirtioScsiPci {
            id: "scsi0",
            addr: pci::addr(pci::SCSI),
        }
    }

    /// Disks refer to it by `usb0.0`.
    pub(crate) fn usb() -> Self {
        let addr = pci::addr(pci::USB);
        Self::QemuXhci {
            id: "usb0",
            p2: USB_PORTS,
            p3: USB_PORTS,
            addr,
        }
    }

    pub(crate) fn nic(index: usize, interface: &Interface) -> Self {
        let nic = Nic {
            id: format!("nic{index}"),
            netdev: netdev::id(index),
            mac: interface.mac_address.clone(),
            romfile: "",
            addr: pci::addr(pci::nic(index)),
        };
        match interface.model {
            InterfaceModel::Virtio => Self::VirtioNetPci(nic),
            InterfaceModel::E1000e => Self::E1000e(nic),
        }
    }
}

impl Switch for Device {
    fn name(&self) -> &'static str {
        "-device"
    }

    fn value(&self) -> Option<String> {
        Some(json(self))
    }
}
