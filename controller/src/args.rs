//! The command line of `coracle-controller`, and the environment it reads.
//!
//! In a cluster nothing has to be said but, by the downward API, `POD_NAME`
//! and `POD_NAMESPACE`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tracing::Level;

/// The image of this release's VMs.
const IMAGE: &str = concat!("coracle.dev/vm:", env!("CARGO_PKG_VERSION"));

/// The image that fills this release's disks.
const IMPORTER: &str = concat!("coracle.dev/importer:", env!("CARGO_PKG_VERSION"));

/// Runs each VirtualMachine of the cluster as a pod.
#[derive(Clone, Debug, Parser)]
#[command(name = "coracle-controller", version)]
pub struct Args {
    /// Image that VMs run in: shim, qemu and firmware
    #[arg(long, value_name = "REFERENCE", env = "CORACLE_VM_IMAGE", default_value = IMAGE)]
    pub image: String,
    /// Image that fills disks from where their VM says, before it starts
    #[arg(long, value_name = "REFERENCE", env = "CORACLE_IMPORTER_IMAGE", default_value = IMPORTER)]
    pub importer_image: String,
    /// Namespace of the lease by which replicas agree on who leads
    #[arg(
        long,
        value_name = "NAME",
        env = "POD_NAMESPACE",
        default_value = "coracle-system"
    )]
    pub namespace: String,
    /// Name of this replica in the election; by default the host name
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,
    /// Address of /metrics, /healthz and /readyz
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// How many seconds a VM's pod may take to start before its steps on the
    /// way are written to the VM's status
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub patience: u64,
    /// How much to log: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value_t = Level::INFO)]
    pub log_level: Level,
    /// How to log: text, json
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Args {
    /// How long the steps to a running guest may take without a write each.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }
}
