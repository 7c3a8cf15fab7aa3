//! What all parts of Coracle agree on: the `VirtualMachine` custom resource,
//! the machine description that travels from the controller to the shim, and
//! the names and paths both sides use.
//!
//! This crate does no I/O and knows no client. Without the `kube` feature it
//! is small enough for the programs that run on a node.

#[cfg(feature = "kube")]
pub mod advice;
pub mod machine;
pub mod names;
pub mod report;
pub mod types;
#[cfg(feature = "kube")]
pub mod vm;
