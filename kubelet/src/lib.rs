//! The kubelet's side of the device plugin protocol (v1beta1, kubelet 1.37):
//! registration, the list of devices, allocation.
//!
//! `coracle run` is the kubelet of its one machine with it, and tests play a
//! kubelet against real plugins, its bad days included ([`Faults`]).
//!
//! What it guarantees: a device is never given out twice before it is
//! released, and never while its plugin calls it unhealthy. What it must never
//! do: touch a device, or know what one is; it only passes on what the plugin
//! answered.

mod accounts;
mod authority;
mod error;
mod kubelet;
mod options;
mod plugin;
mod pod_resources;
mod registration;

pub use accounts::Device;
pub use error::KubeletError;
pub use kubelet::{Allocation, Kubelet};
pub use options::{Faults, Options, Takeover};
