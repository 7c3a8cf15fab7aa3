//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use coracle_api::names;
use tracing::level_filters::LevelFilter;

use crate::{control::Signal, qemu};

/// Runs one virtual machine and answers for it, as the one process of its
/// container.
///
/// The guest's serial console is on standard output, the log on standard error.
/// The life cycle is a container runtime's: create, start, kill, delete; `run`
/// is all of them. The other commands speak to the shim that runs the VM, so
/// `kubectl exec POD -- coracle-shim state` works.
///
/// Exit codes: 0 the guest powered off or was stopped, 1 the guest crashed or
/// qemu failed (or a command was refused), 2 the configuration is wrong,
/// 3 a device or permission of the host is missing.
#[derive(Clone, Debug, Parser)]
#[command(name = "coracle-shim", version)]
pub struct Arguments {
    /// Where things are.
    #[command(flatten)]
    pub options: Options,
    /// What to do.
    #[command(subcommand)]
    pub command: Action,
}

/// Where things are.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Directory with machine.json and desired.
    #[arg(long, global = true, value_name = "DIR", default_value = names::CONFIG_DIR)]
    pub config_dir: PathBuf,
    /// Directory for the control socket and for what is made at run time.
    #[arg(long, global = true, value_name = "DIR", default_value = names::RUN_DIR)]
    pub run_dir: PathBuf,
    /// The qemu to run.
    #[arg(long, global = true, value_name = "PATH", default_value = qemu::PROGRAM)]
    pub qemu: PathBuf,
    /// File that gets the termination message.
    #[arg(long, global = true, value_name = "PATH", default_value = names::TERMINATION_LOG)]
    pub termination_log: PathBuf,
    /// How long qemu may take to answer on QMP, in seconds.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60)]
    pub qmp_timeout: u64,
    /// Least severity that is logged: off, error, warn, info, debug or trace.
    #[arg(long, global = true, value_name = "LEVEL", default_value_t = LevelFilter::INFO)]
    pub log_level: LevelFilter,
}

/// What to do.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Action {
    /// Create the VM, start it and wait for its end.
    Run,
    /// Check everything and start qemu with the virtual CPUs stopped; a shim
    /// in the background answers for the VM from then on.
    Create,
    /// The shim in the background.
    #[command(hide = true)]
    Serve,
    /// Run the guest of a VM that was created.
    Start,
    /// Print the state as JSON.
    State,
    /// End the VM.
    Kill {
        /// TERM presses the power button and ends the VM when its time to
        /// power off is up; KILL ends it at once.
        #[arg(value_enum, default_value_t, ignore_case = true)]
        signal: Signal,
    },
    /// Forget a VM that has ended.
    Delete {
        /// End it first.
        #[arg(long)]
        force: bool,
    },
    /// Stop the virtual CPUs.
    Pause {
        /// Hold a pod's sandbox instead, as the pod's pause container: reap
        /// and wait for TERM.
        #[arg(long)]
        sandbox: bool,
    },
    /// Let the virtual CPUs run again.
    Resume,
    /// Attach to the serial console: what it showed last, then live. On a
    /// terminal, Ctrl-] leaves.
    Console {
        /// Only look.
        #[arg(long)]
        read_only: bool,
    },
    /// Succeed when the guest runs.
    Probe {
        /// Succeed when the VM was created, whether the guest runs or not.
        #[arg(long)]
        created: bool,
    },
}
