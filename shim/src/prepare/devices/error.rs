//! Why a device of the node cannot be given to the guest.

use std::io;
use std::path::PathBuf;

use coracle_api::report::TerminationReason;

use super::memlock::MARGIN;

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No variable names it, and no node was given without one.
    #[error(
        "none was given to the container: it has no environment variable {variable}, nor another \
         plugin's of that resource, and no device node beside those that have a name; the device \
         plugin must give PCI functions (VFIO), mediated devices or USB devices"
    )]
    NotGiven {
        /// The variable of our own plugin.
        variable: String,
    },
    /// The variable names fewer devices than the VM is to have.
    #[error(
        "{variable} names {count} and the VM is to have more: delete the pod to have it made again"
    )]
    TooFew {
        /// The variable.
        variable: String,
        /// How many it names.
        count: usize,
    },
    /// The variable names something that is no device for a guest.
    #[error(
        "{variable} names {id:?}, which is no PCI function, mediated device or USB device: a guest \
         can be given nothing else"
    )]
    Unsupported {
        /// The variable.
        variable: String,
        /// What it names.
        id: String,
    },
    /// Another device of the VM is the same.
    #[error("it is {id}, and so is the device {other:?}: two resources lead to one device")]
    SameDevice {
        /// The device of the node.
        id: String,
        /// The other device's name.
        other: String,
    },
    /// There are nodes without names, and not one way to tell them apart.
    #[error(
        "no environment variable names it, and the nodes that were given without a name ({nodes}) \
         are not one for each such device: use a device plugin that sets {variable}"
    )]
    Ambiguous {
        /// What there is.
        nodes: String,
        /// The variable of our own plugin.
        variable: String,
    },
    /// The node has no such device.
    #[error("{} is not there: the node has no such device any more", path.display())]
    Gone {
        /// Where it would be.
        path: PathBuf,
    },
    /// The device is the host's.
    #[error(
        "{id} is bound to {driver}, not to a VFIO driver: driverctl set-override {id} vfio-pci"
    )]
    NotVfio {
        /// The device.
        id: String,
        /// Its driver, or `no driver`.
        driver: String,
    },
    /// The IOMMU is off.
    #[error("{id} is in no IOMMU group: switch the IOMMU on in the node's firmware and kernel")]
    NoGroup {
        /// The device.
        id: String,
    },
    /// The node of before a reboot.
    #[error(
        "{id} is in IOMMU group {group} now and its node is called {}: groups were numbered anew \
         when the node booted; delete the pod to have it made again", node.display()
    )]
    Renumbered {
        /// The device.
        id: String,
        /// Its group's number.
        group: u32,
        /// The node that the container has.
        node: PathBuf,
    },
    /// Only iommufd's nodes were given.
    #[error(
        "{} is not in the container, only /dev/iommu is: this qemu uses VFIO's groups, so the \
         device plugin must give the group's node", node.display()
    )]
    OnlyIommufd {
        /// The node that is missing.
        node: PathBuf,
    },
    /// A node is not in the container.
    #[error("{} is not in the container: its device plugin gave {id} a name and no node", node.display())]
    NoNode {
        /// The device.
        id: String,
        /// The node.
        node: PathBuf,
    },
    /// A node is there and cannot be opened.
    #[error("{} cannot be opened: {hint}", node.display())]
    Open {
        /// The node.
        node: PathBuf,
        /// What to do about it.
        hint: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The kernel would refuse to lock the guest's memory.
    #[error(
        "VFIO locks {} MiB, the guest's memory and {} MiB, and this container may lock {} MiB \
          (RLIMIT_MEMLOCK): give the node's device plugin deploy/components/memory-lock (containerd \
         2), or set LimitMEMLOCK=infinity in the unit of containerd, or default_ulimits = \
         [\"memlock=-1:-1\"] of CRI-O, on the node", wanted >> 20, MARGIN >> 20,
         limit >> 20
    )]
    Memlock {
        /// Bytes that must be lockable.
        wanted: u64,
        /// Bytes that are.
        limit: u64,
    },
}

impl DeviceError {
    /// The reason for the termination message.
    #[must_use]
    pub fn reason(&self) -> TerminationReason {
        match self {
            Self::Memlock { .. } => TerminationReason::MemoryLockTooLow,
            _ => TerminationReason::DeviceUnavailable,
        }
    }
}
