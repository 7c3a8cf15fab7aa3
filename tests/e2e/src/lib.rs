//! The kit of the tests on a real Kubernetes.
//!
//! `make e2e` starts a cluster in namespaces of its own and runs the tests in
//! it; `make e2e KUBECONFIG=…` runs those that need no hand in the nodes on a
//! cluster that exists. Elsewhere (`cargo test`) the tests say that they were
//! skipped. A test works in a [`Namespace`] of its own and waits for states,
//! never for time. One that disturbs the node has it for itself.

mod cluster;
mod csi;
mod device_nodes;
pub mod documents;
mod image;
mod installation;
mod kubectl;
mod machine;
mod namespace;
mod node;
mod own_plugin;
mod pod;
mod registry;
mod rights;
mod second;
mod terminal;
mod vm;
mod volume;
mod wait;
mod web;

pub use cluster::Cluster;
pub use csi::{Csi, CsiVolume, block_claim, phase as claim_phase};
pub use device_nodes::DeviceNodes;
pub use image::Image;
pub use installation::{Installation, NAMESPACE};
pub use kubectl::{Called, Kubectl};
pub use machine::{Machine, condition};
pub use namespace::Namespace;
pub use node::{Arguments, Component, KVM_COUNT, Node};
pub use own_plugin::OwnPlugin;
pub use pod::{PodFacts, goes_on, plain_pod};
pub use registry::Registry;
pub use rights::{Right, all_rights, rights_of};
pub use second::{SecondNode, place};
pub use terminal::Terminal;
pub use vm::{VmPod, termination, vm_object};
pub use volume::{BlockVolume, Reach, as_udev_leaves_it};
pub use wait::{PATIENCE, until, until_within, wait_for};
pub use web::{Web, checksum};
