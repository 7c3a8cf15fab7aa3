//! The enums that the custom resource and the machine description share.
//! Spelled as in the manifest.

use serde::{Deserialize, Serialize};

/// Which accelerator qemu uses. There is no fallback from one to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum Accelerator {
    /// Hardware virtualization. The pod requests `coracle.dev/kvm`, so only a
    /// node with a working `/dev/kvm` gets it.
    #[default]
    Kvm,
    /// qemu's software emulation (TCG): runs anywhere, many times slower.
    Emulation,
}

/// How the guest sees a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum DiskBus {
    /// virtio-blk on PCI.
    #[default]
    Virtio,
    /// A SCSI disk on a virtio-scsi controller.
    Scsi,
    /// A disk on the chipset's AHCI controller.
    Sata,
    /// A USB mass storage device.
    Usb,
}

/// Host page cache policy of a disk (qemu's `cache=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum CacheMode {
    /// Direct I/O past the host's page cache; the guest's flushes count.
    #[default]
    None,
    /// Through the host's page cache; the guest's flushes count.
    Writeback,
    /// Through the host's page cache, flushed after every write.
    Writethrough,
}

/// What becomes of the guest's discard (trim, unmap) requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum DiscardMode {
    /// Passed to the device, so that thin storage shrinks.
    #[default]
    Unmap,
    /// Dropped.
    Ignore,
}

/// What the guest takes a disk for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum DiskType {
    /// A disk.
    #[default]
    Disk,
    /// A CD-ROM drive with this disk in it; read-only.
    Cdrom,
    /// The SCSI logical unit itself: the guest's SCSI commands reach the
    /// device. Only where the device is a SCSI disk.
    Lun,
}

impl DiskType {
    /// Whether it is a plain disk.
    #[must_use]
    pub fn is_disk(&self) -> bool {
        *self == Self::Disk
    }
}

/// What becomes of runs of zeroes that the guest writes (`detect-zeroes=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum DetectZeroes {
    /// They are written. Looking for them costs a pass over every write.
    #[default]
    Ignore,
    /// The device is told to write zeroes, which is less to transfer.
    WriteZeroes,
    /// They become discards, so that thin storage stays thin.
    Unmap,
}

impl DetectZeroes {
    /// Whether nothing is looked for.
    #[must_use]
    pub fn is_ignore(&self) -> bool {
        *self == Self::Ignore
    }
}

/// How qemu submits I/O for a disk (`aio=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum IoMode {
    /// Decided by what the device and the sandbox allow.
    #[default]
    Auto,
    /// Linux `io_uring`.
    IoUring,
    /// Linux native AIO; needs cache `None`.
    Native,
    /// A pool of threads.
    Threads,
}

/// What qemu does when a disk returns an error (`werror=`, `rerror=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum ErrorPolicy {
    /// The VM is paused on any error and nothing is lost.
    #[default]
    Stop,
    /// The guest gets the error.
    Report,
    /// The error is ignored.
    Ignore,
    /// The VM is paused when space runs out; other errors go to the guest.
    Enospc,
}

/// How an interface reaches its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum Binding {
    /// qemu's user-mode network inside the pod's network namespace: outgoing
    /// TCP and UDP, no privilege, passes Pod Security `restricted`.
    Slirp,
}

/// The network card the guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub enum InterfaceModel {
    /// virtio-net on PCI.
    #[default]
    Virtio,
    /// Intel 82574L, for guests without virtio drivers.
    E1000e,
}

/// Whether a VM's guest should run or be paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DesiredState {
    /// The virtual CPUs run.
    #[default]
    Running,
    /// The virtual CPUs are stopped; memory stays.
    Paused,
}
