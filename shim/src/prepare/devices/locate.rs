//! From a device's name to what qemu is told, with everything on the way that
//! qemu would fail on.
//!
//! A node is found by its numbers where sysfs tells them: a path that was made
//! before a reboot or a replug may lead elsewhere by now.

use std::fs;
use std::path::{Path, PathBuf};

use super::assign::Id;
use super::node::{list, numbers, opens};
use super::{DeviceError, Passed};

/// What a container sees of its node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host<'a> {
    pub(super) sys: &'a Path,
    pub(super) dev: &'a Path,
}

impl Host<'_> {
    /// Finds a device.
    pub(super) fn locate(&self, id: &Id) -> Result<Passed, DeviceError> {
        match id {
            Id::Pci(address) => {
                let dir = self.device("pci", address)?;
                driven_by_vfio(&dir, address)?;
                self.group(&dir, address)?;
                Ok(Passed::Pci {
                    host: address.clone(),
                })
            }
            Id::Mdev(uuid) => {
                let dir = self.device("mdev", uuid)?;
                self.group(&dir, uuid)?;
                Ok(Passed::Mdev {
                    sysfsdev: dir.display().to_string(),
                })
            }
            Id::UsbPort(port) => self.usb_port(port),
            Id::UsbNumber(bus, number) => {
                let node = self.usb_node(*bus, *number);
                usb(&node, &id.to_string())
            }
        }
    }

    fn device(&self, bus: &str, name: &str) -> Result<PathBuf, DeviceError> {
        let path = self.sys.join("bus").join(bus).join("devices").join(name);
        if path.exists() {
            Ok(path)
        } else {
            Err(DeviceError::Gone { path })
        }
    }

    /// The group's node is there, is the group's, and opens.
    fn group(&self, dir: &Path, id: &str) -> Result<(), DeviceError> {
        let Some(group) = target(&dir.join("iommu_group")).and_then(|name| name.parse().ok())
        else {
            return Err(DeviceError::NoGroup { id: id.to_owned() });
        };
        let node = self.group_node(group);
        let number = self.sys.join(format!("class/vfio/{group}/dev"));
        let number = fs::read_to_string(number).ok();
        let number = number.as_deref().map(str::trim);
        let is_it = |node: &Path| {
            let found = numbers(node);
            number.is_some() && found.as_deref() == number
        };
        if node.exists() && (number.is_none() || is_it(&node)) {
            opens(&self.dev.join("vfio/vfio"))?;
            return opens(&node);
        }
        let id = id.to_owned();
        let others = list(&self.dev.join("vfio"));
        if let Some(node) = others.into_iter().find(|node| is_it(node)) {
            return Err(DeviceError::Renumbered { id, group, node });
        }
        if self.dev.join("iommu").exists() && !list(&self.dev.join("vfio/devices")).is_empty() {
            return Err(DeviceError::OnlyIommufd { node });
        }
        Err(DeviceError::NoNode { id, node })
    }

    pub(super) fn group_node(&self, group: u32) -> PathBuf {
        self.dev.join("vfio").join(group.to_string())
    }

    fn usb_node(&self, bus: u16, number: u16) -> PathBuf {
        self.dev.join(format!("bus/usb/{bus:03}/{number:03}"))
    }

    /// A device that was plugged in again has another number, and in the
    /// container a node of the number before.
    fn usb_port(&self, port: &str) -> Result<Passed, DeviceError> {
        let dir = self.device("usb", port)?;
        let gone = || DeviceError::Gone { path: dir.clone() };
        let read = |file: &str| fs::read_to_string(dir.join(file)).map_err(|_| gone());
        let number = |file: &str| read(file)?.trim().parse::<u16>().map_err(|_| gone());
        let named = self.usb_node(number("busnum")?, number("devnum")?);
        let wanted = read("dev")?;
        let is_it = |node: &PathBuf| numbers(node).as_deref() == Some(wanted.trim());
        let node = std::iter::once(named.clone())
            .chain(self.usb_nodes())
            .find(is_it)
            .unwrap_or(named);
        usb(&node, port)
    }

    pub(super) fn usb_nodes(&self) -> impl Iterator<Item = PathBuf> {
        list(&self.dev.join("bus/usb"))
            .into_iter()
            .flat_map(|bus| list(&bus))
    }
}

/// A USB device with this node.
fn usb(node: &Path, id: &str) -> Result<Passed, DeviceError> {
    if !node.exists() {
        return Err(DeviceError::NoNode {
            id: id.to_owned(),
            node: node.to_owned(),
        });
    }
    opens(node)?;
    Ok(Passed::Usb {
        hostdevice: node.display().to_string(),
    })
}

/// The last part of where a link leads.
pub(super) fn target(link: &Path) -> Option<String> {
    let path = fs::read_link(link).ok()?;
    Some(path.file_name()?.to_str()?.to_owned())
}

/// Variants of `vfio-pci` have names of their own with the word in it.
fn driven_by_vfio(dir: &Path, address: &str) -> Result<(), DeviceError> {
    let driver = target(&dir.join("driver"));
    match driver {
        Some(driver) if is_vfio(&driver) => Ok(()),
        other => Err(DeviceError::NotVfio {
            id: address.to_owned(),
            driver: other.unwrap_or_else(|| "no driver".to_owned()),
        }),
    }
}

pub(super) fn is_vfio(driver: &str) -> bool {
    driver.contains("vfio")
}
