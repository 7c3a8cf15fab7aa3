//! `-device`: everything the guest sees but its disks, properties spelled as
//! qemu spells them.
//!
//! In the older syntax and not in JSON: qemu 7.2 first creates all devices that
//! are given in the older one, then those in JSON, and the disks, which the
//! block adapter gives in the older one, need their controllers and come last.

use coracle_api::machine::Interface;
use coracle_api::types::InterfaceModel;

use super::netdev;
use super::pci;
use super::switch::{Keys, Switch};

/// Ports of the USB controller; qemu's upper bound.
pub(crate) const USB_PORTS: usize = 15;

/// `-device`
#[derive(Clone, Debug)]
pub(crate) enum Device {
    /// The first serial port: ttyS0, COM1.
    IsaSerial {
        id: &'static str,
        chardev: &'static str,
        index: u32,
    },
    /// Where the guest's kernel tells that it panicked (ACPI `QEMU0001`).
    Pvpanic,
    /// A device on the PCI bus.
    Pci {
        driver: Pci,
        id: String,
        /// Its slot.
        addr: usize,
    },
}

/// What is on the PCI bus, with the properties that only it has.
#[derive(Clone, Debug)]
pub(crate) enum Pci {
    /// The host's entropy.
    VirtioRng,
    /// Tells the guest's memory use, and lets it give free pages back.
    VirtioBalloon { free_page_reporting: bool },
    /// The SCSI controller.
    VirtioScsi,
    /// The USB controller, with ports for USB 2 and 3.
    QemuXhci { p2: usize, p3: usize },
    /// A virtio network card.
    VirtioNet(Nic),
    /// An Intel 82574L.
    E1000e(Nic),
}

/// The properties of a network card.
#[derive(Clone, Debug)]
pub(crate) struct Nic {
    netdev: String,
    mac: String,
    /// None: the firmware boots disks, not networks.
    romfile: &'static str,
}

impl Device {
    pub(crate) fn serial(chardev: &'static str) -> Self {
        Self::IsaSerial {
            id: "com1",
            chardev,
            index: 0,
        }
    }

    pub(crate) fn rng() -> Self {
        Self::on_pci(Pci::VirtioRng, "rng0", pci::RNG)
    }

    pub(crate) fn balloon() -> Self {
        let driver = Pci::VirtioBalloon {
            free_page_reporting: true,
        };
        Self::on_pci(driver, "balloon0", pci::BALLOON)
    }

    /// Disks refer to it by `scsi0.0`.
    pub(crate) fn scsi() -> Self {
        Self::on_pci(Pci::VirtioScsi, "scsi0", pci::SCSI)
    }

    /// Disks refer to it by `usb0.0`.
    pub(crate) fn usb() -> Self {
        let driver = Pci::QemuXhci {
            p2: USB_PORTS,
            p3: USB_PORTS,
        };
        Self::on_pci(driver, "usb0", pci::USB)
    }

    pub(crate) fn nic(index: usize, interface: &Interface) -> Self {
        let nic = Nic {
            netdev: netdev::id(index),
            mac: interface.mac_address.clone(),
            romfile: "",
        };
        let driver = match interface.model {
            InterfaceModel::Virtio => Pci::VirtioNet(nic),
            InterfaceModel::E1000e => Pci::E1000e(nic),
        };
        Self::on_pci(driver, &format!("nic{index}"), pci::nic(index))
    }

    fn on_pci(driver: Pci, id: &str, addr: usize) -> Self {
        Self::Pci {
            driver,
            id: id.to_owned(),
            addr,
        }
    }
}

impl Pci {
    fn name(&self) -> &'static str {
        match self {
            Self::VirtioRng => "virtio-rng-pci",
            Self::VirtioBalloon { .. } => "virtio-balloon-pci",
            Self::VirtioScsi => "virtio-scsi-pci",
            Self::QemuXhci { .. } => "qemu-xhci",
            Self::VirtioNet(_) => "virtio-net-pci",
            Self::E1000e(_) => "e1000e",
        }
    }

    fn properties(&self, keys: Keys) -> Keys {
        match self {
            Self::VirtioRng | Self::VirtioScsi => keys,
            Self::VirtioBalloon {
                free_page_reporting,
            } => keys.flag("free-page-reporting", *free_page_reporting),
            Self::QemuXhci { p2, p3 } => keys.with("p2", p2).with("p3", p3),
            Self::VirtioNet(nic) | Self::E1000e(nic) => keys
                .with("netdev", &nic.netdev)
                .with("mac", &nic.mac)
                .with("romfile", nic.romfile),
        }
    }
}

impl Switch for Device {
    fn name(&self) -> &'static str {
        "-device"
    }

    fn value(&self) -> Option<String> {
        let keys = match self {
            Self::IsaSerial { id, chardev, index } => Keys::word("isa-serial")
                .with("id", id)
                .with("chardev", chardev)
                .with("index", index),
            Self::Pvpanic => Keys::word("pvpanic"),
            Self::Pci { driver, id, addr } => driver
                .properties(Keys::word(driver.name()).with("id", id))
                .with("bus", "pcie.0")
                .with("addr", &format!("{addr:#04x}")),
        };
        Some(keys.into_value())
    }
}
