//! USB devices, from `/sys/bus/usb/devices`. A device is named by the port it
//! is plugged into; its number on the bus changes each time.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use nix::sys::stat::makedev;

use super::{Roots, attribute, char_device, hex, names};

/// Class of a hub.
const HUB: u32 = 0x09;

/// Where a USB device is until it is plugged in again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UsbAddress {
    pub(crate) bus: u16,
    /// Its number on the bus.
    pub(crate) number: u16,
}

impl fmt::Display for UsbAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.bus, self.number)
    }
}

/// A USB device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UsbDevice {
    pub(crate) vendor: u32,
    pub(crate) product: u32,
    pub(crate) serial: Option<String>,
    pub(crate) address: UsbAddress,
    /// Numbers of its node, as the kernel has them.
    pub(crate) rdev: u64,
    /// Numbers of what is in the place of its node.
    pub(crate) node: Option<u64>,
}

impl UsbDevice {
    /// Its node's path below `/dev`.
    pub(crate) fn path(&self) -> String {
        let UsbAddress { bus, number } = self.address;
        format!("bus/usb/{bus:03}/{number:03}")
    }
}

/// Every device but hubs.
pub(super) fn scan(roots: &Roots) -> BTreeMap<String, UsbDevice> {
    let dir = roots.sys.join("bus/usb/devices");
    // Interfaces have a colon, root hubs no dash.
    let devices = names(&dir)
        .into_iter()
        .filter(|name| name.contains('-') && !name.contains(':'));
    let devices = devices.filter_map(|port| {
        let device = read(&dir.join(&port), &roots.dev)?;
        Some((port, device))
    });
    devices.collect()
}

/// Nothing for a hub, and when it went away meanwhile.
fn read(device: &Path, dev: &Path) -> Option<UsbDevice> {
    if hex(device, "bDeviceClass")? == HUB {
        return None;
    }
    let number = |name| attribute(device, name)?.trim().parse().ok();
    let numbers = attribute(device, "dev")?;
    let (major, minor) = numbers.split_once(':')?;
    let mut found = UsbDevice {
        vendor: hex(device, "idVendor")?,
        product: hex(device, "idProduct")?,
        serial: attribute(device, "serial").filter(|serial| !serial.is_empty()),
        address: UsbAddress {
            bus: number("busnum")?,
            number: number("devnum")?,
        },
        rdev: makedev(major.parse().ok()?, minor.parse().ok()?),
        node: None,
    };
    found.node = char_device(&dev.join(found.path()));
    Some(found)
}
