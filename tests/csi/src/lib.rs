//! A CSI driver for the tests of Coracle (CSI 1.x): a volume is a file in a
//! directory, a device is a loop device on it.
//!
//! It does what drivers in the field do, in one process on one node: creates,
//! clones, snapshots (by copy), expands, lists and deletes volumes; stages and
//! publishes them as raw block devices or as an ext4 file system; registers
//! itself with the kubelet. It does not attach: `attachRequired` is false.
//!
//! All state is in its directory and in the kernel (loop devices, mounts), so
//! it can be killed and started again at any time. A device node is root:disk
//! 0660, as udev would make it. What it is not: fast, or safe to snapshot
//! while somebody writes.
//!
//! ```text
//!  kubelet, sidecars ── gRPC ─► identity controller node   (translate)
//!                                        │        │
//!                               backend: volumes, snapshots, nodes (rules)
//!                                        │        │
//!                                     shelf     loops, mounts (files, kernel)
//! ```

mod access;
mod backend;
mod controller;
mod error;
mod identity;
mod loops;
mod mounts;
mod node;
mod paging;
mod registration;
mod server;
mod shelf;

pub use server::{Args, run};

/// CSI v1, as generated: for the driver and for tests that call one.
pub mod proto {
    // Generated code is not held to the workspace's lints.
    #![allow(
        missing_docs,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        clippy::or_fun_call,
        reason = "generated from proto/csi.proto"
    )]

    tonic::include_proto!("csi.v1");
}

/// The driver's name, as a `StorageClass` names its provisioner.
pub const NAME: &str = "loop.csi.coracle.dev";
/// The label of the node that has a volume.
pub const TOPOLOGY_KEY: &str = "loop.csi.coracle.dev/node";
