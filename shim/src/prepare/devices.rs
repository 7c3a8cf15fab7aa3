//! The node's devices for the guest: which ones the container was given, and
//! whether qemu will get them.
//!
//! The names come from the environment, as the device plugins set it, never
//! from a search of the node: a container sees every device of its node in
//! sysfs, and owns few of them. What is missing ends the VM before qemu
//! starts; nothing is left out. Implements design §5.

mod assign;
mod error;
mod injected;
mod locate;
mod memlock;
mod node;

use std::collections::BTreeMap;
use std::path::PathBuf;

use coracle_api::machine::Machine;

use crate::refusal::Refusal;
pub use assign::Variables;
pub use error::DeviceError;
use locate::Host;
use memlock::Limits;

/// A device that the guest gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDevice {
    /// Its name in the VM.
    pub name: String,
    /// How qemu is told of it.
    pub passed: Passed,
}

/// How qemu is told of a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Passed {
    /// A PCI function, by its address.
    Pci {
        /// `0000:3b:00.0`
        host: String,
    },
    /// A mediated device, by its directory in sysfs.
    Mdev {
        /// `/sys/bus/mdev/devices/UUID`
        sysfsdev: String,
    },
    /// A USB device, by its node.
    Usb {
        /// `/dev/bus/usb/001/007`
        hostdevice: String,
    },
}

impl Passed {
    /// Whether the kernel hands it out by VFIO, which locks the guest's memory.
    #[must_use]
    pub fn is_vfio(&self) -> bool {
        match self {
            Self::Pci { .. } | Self::Mdev { .. } => true,
            Self::Usb { .. } => false,
        }
    }
}

/// Where devices are looked for.
#[derive(Clone, Debug)]
pub struct DevicePaths {
    /// `/sys`
    pub sys: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
    /// `/proc/self/status`
    pub status: PathBuf,
}

impl Default for DevicePaths {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            dev: "/dev".into(),
            status: "/proc/self/status".into(),
        }
    }
}

/// Finds every device of `machine`.
pub(super) fn find(
    machine: &Machine,
    variables: &Variables,
    paths: &DevicePaths,
) -> Result<Vec<FoundDevice>, Refusal> {
    let refused = |index: usize, source| {
        let device = &machine.devices[index];
        Refusal::Device {
            device: device.name.clone(),
            resource: device.resource.clone(),
            source: Box::new(source),
        }
    };
    if machine.devices.is_empty() {
        return Ok(vec![]);
    }
    let host = Host {
        sys: &paths.sys,
        dev: &paths.dev,
    };
    let assigned = assign::assign(&machine.devices, variables)
        .map_err(|(index, source)| refused(index, source))?;
    let assigned = injected::fill(&machine.devices, assigned, &host)
        .map_err(|(index, source)| refused(index, source))?;
    let mut found: Vec<FoundDevice> = Vec::new();
    let mut nodes: BTreeMap<Passed, usize> = BTreeMap::new();
    for (index, (device, assigned)) in machine.devices.iter().zip(&assigned).enumerate() {
        if assigned.is_vfio() && !found.iter().any(|found| found.passed.is_vfio()) {
            let limits = Limits::of_process(&paths.status);
            memlock::ensure(machine.memory_bytes, limits)
                .map_err(|source| refused(index, source))?;
        }
        let passed = host
            .locate(&assigned.id)
            .map_err(|source| refused(index, source))?;
        // A port and a number may be of one USB device.
        if let Some(other) = nodes.insert(passed.clone(), index) {
            let other = machine.devices[other].name.clone();
            let id = assigned.id.to_string();
            return Err(refused(index, DeviceError::SameDevice { id, other }));
        }
        tracing::info!(device = %device.name, resource = %device.resource,
                       variable = assigned.variable.as_deref(), id = %assigned.id,
                       "found a device of the node");
        found.push(FoundDevice {
            name: device.name.clone(),
            passed,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
