//! `-device` for the node's devices.
//!
//! What VFIO hands out sits behind a PCI Express root port of its own: drivers
//! of real cards look for the link that an endpoint on the root bus lacks.
//! qemu's ways to all of them are open in its sandbox: ioctls, and a netlink
//! socket for libusb. Guest memory that is pinned is kept out of the balloon's
//! reach by qemu itself.

use crate::prepare::{Found, Passed};

use super::pci;
use super::switch::{Arguments, Keys, Switch};

/// `-device`
#[derive(Clone, Debug)]
enum Device {
    /// A PCI Express root port.
    PcieRootPort {
        id: String,
        chassis: usize,
        /// Slot and function.
        addr: (usize, usize),
    },
    /// What VFIO hands out.
    VfioPci {
        id: String,
        of: Vfio,
        /// Its root port.
        bus: String,
    },
    /// A USB device, by its node.
    UsbHost { id: String, hostdevice: String },
}

/// How `vfio-pci` is told of a device.
#[derive(Clone, Debug)]
enum Vfio {
    Host(String),
    Sysfsdev(String),
}

/// Whether the USB controller is needed.
pub(super) fn needs_usb(found: &Found) -> bool {
    let usb = |passed: &Passed| matches!(passed, Passed::Usb { .. });
    found.devices.iter().any(|device| usb(&device.passed))
}

/// All of them, in the manifest's order.
pub(super) fn add(found: &Found, arguments: &mut Arguments) {
    let mut ports = 0;
    for (index, device) in found.devices.iter().enumerate() {
        let id = format!("host{index}");
        let mut vfio = |of| {
            let bus = format!("port{ports}");
            arguments.add(&Device::PcieRootPort {
                id: bus.clone(),
                chassis: ports + 1,
                addr: pci::root_port(ports),
            });
            ports += 1;
            let id = id.clone();
            arguments.add(&Device::VfioPci { id, of, bus });
        };
        match &device.passed {
            Passed::Pci { host } => vfio(Vfio::Host(host.clone())),
            Passed::Mdev { sysfsdev } => vfio(Vfio::Sysfsdev(sysfsdev.clone())),
            Passed::Usb { hostdevice } => {
                let hostdevice = hostdevice.clone();
                arguments.add(&Device::UsbHost { id, hostdevice });
            }
        }
    }
}

impl Switch for Device {
    fn name(&self) -> &'static str {
        "-device"
    }

    fn value(&self) -> Option<String> {
        let keys = match self {
            Self::PcieRootPort {
                id,
                chassis,
                addr: (slot, function),
            } => Keys::word("pcie-root-port")
                .with("id", id)
                .with("chassis", chassis)
                .with("bus", "pcie.0")
                .flag("multifunction", true)
                .with("addr", &format!("{slot:#04x}.{function:#x}")),
            Self::VfioPci { id, of, bus } => {
                let keys = Keys::word("vfio-pci").with("id", id);
                match of {
                    Vfio::Host(host) => keys.with("host", host),
                    Vfio::Sysfsdev(dir) => keys.with("sysfsdev", dir),
                }
                .with("bus", bus)
            }
            Self::UsbHost { id, hostdevice } => Keys::word("usb-host")
                .with("id", id)
                .with("hostdevice", hostdevice)
                .with("bus", "usb0.0"),
        };
        Some(keys.into_value())
    }
}
