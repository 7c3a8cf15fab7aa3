//! The device plugin: advertises a node's devices to the kubelet, and gives
//! every container that requests one a node that works for any user (device
//! plugin v1beta1, kubelet 1.26 to 1.37).
//!
//! Kubelets before 1.26 dial plugins with the socket's path as the HTTP/2
//! `:authority`. The HTTP/2 library under this server refuses that with
//! `PROTOCOL_ERROR`, so 1.26 is the oldest kubelet it can serve; the log says so
//! where an older one calls.
//!
//! ```text
//!  uevent, events (one netlink socket, one inotify instance)
//!      │ wake
//!      ▼
//!    kvm ───────────────────────────────┐
//!    (check: a guest runs; verdict:     │ a listing      registrar ─► session ─► kubelet
//!     whose word counts)                ├─ each resource (when)        (one registration:
//!    stock ─────────────────────────────┘                               socket, server)
//!    (survey: settings + host ─► inventory ─► offer)         service ◄── allocation,
//!      ▲ usage: what is in use                               preference: pure
//!      └──────────── ledger: who holds what ◄───────────────────┘
//! ```
//!
//! Beside that, `nri` lets containers that get a device of VFIO lock memory,
//! where the container runtime takes plugins.
//!
//! In a cluster the plugin runs in a container that was given no device, and
//! so cannot open the one it advertises. A prober can: a second process that
//! requests the one slot of `coracle.dev/kvm-probe`, gets the device as a VM
//! does, and reports to the plugin ([`prober`]).
//!
//! What it guarantees: KVM is healthy only while a guest can run on it, any
//! other device while its driver, group and node are right; an unknown or
//! unhealthy device is never handed out, and what one container may have alone
//! never to two; the kubelet may go and come as it likes. What it must never
//! do: change a device of the host, exit because the kubelet is away, do I/O
//! in `Allocate`, or talk to the API server.

mod allocation;
pub mod args;
mod check;
mod config;
mod contact;
mod events;
#[doc(hidden)]
pub mod fuzz;
mod grant;
mod holdings;
mod host;
mod http;
mod inspect;
mod inventory;
mod kvm;
mod ledger;
mod listing;
mod metrics;
mod node;
mod nri;
mod plugin;
mod preference;
mod prober;
mod registrar;
mod resource;
mod service;
mod session;
mod settings;
mod socket;
mod stock;
#[cfg(test)]
#[path = "../tests/plugin/tree.rs"]
mod tree;
mod uevent;
mod usage;
mod verdict;

pub use allocation::AllocateError;
pub use check::{CheckError, Checked};
pub use config::{Config, Grant, Reports};
pub use grant::GrantError;
pub use host::Roots;
pub use inspect::{Inspection, inspect};
pub use plugin::{RunError, run};
pub use prober::{Prober, prober};
