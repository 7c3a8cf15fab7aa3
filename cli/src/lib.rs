//! Coracle on one machine: `coracle run vm.yaml` builds the pod that the
//! controller would create and plays the kubelet for it, on a container
//! runtime that speaks CRI.
//!
//! Nothing of Kubernetes runs here and nothing of it is pretended either: the
//! pod comes from the controller's own function, the device from a device
//! plugin that registers over its real socket, and what the container gets is
//! what a kubelet would have given it. The single-machine mode therefore never
//! puts anything into a pod that a stock node would not.
//!
//! Under the name of a kubectl plugin the program speaks to a cluster instead:
//! see [`kubectl`].

pub mod app;
pub mod args;
pub mod cni;
pub mod console;
pub mod containerd;
pub mod cri;
pub mod cri_log;
pub mod devices;
pub mod failure;
pub mod images;
pub mod interrupt;
pub mod kubectl;
pub mod manifest;
pub mod node;
pub mod paths;
pub mod pod_volumes;
pub mod process;
pub mod progress;
pub mod record;
pub mod report;
pub mod run;
pub mod teardown;
pub mod terminal;
pub mod vms;
pub mod volume;
