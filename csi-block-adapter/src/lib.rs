//! Raw block claims: from `PersistentVolumeClaim` to qemu's block options.
//!
//! Two halves that meet in the pod. The claim side ([`claim`], for the
//! controller) turns what is known of a claim into the pod's volume or a typed
//! refusal. The device side ([`device`] and [`qemu`], for the shim) opens what
//! the kubelet put into the pod, learns its properties and decides how qemu is
//! to use it.
//!
//! Neither half ever writes to a disk, changes owner or mode of anything, or
//! touches a device it was not given. What fills a disk before its VM first
//! starts, and copies one into a file, is apart: [`import`] and [`mod@export`].

#[cfg(feature = "claim")]
pub mod claim;
#[cfg(feature = "device")]
pub mod device;
#[cfg(feature = "import")]
pub mod export;
#[cfg(feature = "device")]
mod format;
#[cfg(feature = "import")]
pub mod import;
#[cfg(feature = "device")]
pub mod qcow2;
#[cfg(feature = "device")]
pub mod qemu;
#[cfg(feature = "device")]
pub mod uring;
