//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use coracle_kvm_probe::Level;

use crate::cni::PodCidr;
use crate::volume::VolumeArg;

/// Runs virtual machines as pods, on this machine.
#[derive(Debug, Parser)]
#[command(name = "coracle", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Where things are.
    #[command(flatten)]
    pub global: Global,
}

const EXAMPLES: &str = "\
Examples:
  coracle run vm.yaml --volume web-root=/dev/vg0/web
        boots the VM of the manifest; its console is on the terminal, Ctrl-C
        powers it off, Ctrl-] leaves the console
  coracle run vm.yaml --volume web-root=/srv/web.img --detach
        returns once the guest runs
  coracle ps
  coracle console web
  coracle logs -f web
  coracle stop web

Exit codes of `run`: 0 the guest powered off, 1 it crashed, 2 the manifest or
the command line is wrong, 3 something of this machine is missing.";

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Directory for what is needed while VMs run.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/run/coracle/local"
    )]
    pub state_dir: PathBuf,
    /// Directory of the private containerd's images [default: containerd in
    /// the cache directory].
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "CORACLE_CONTAINERD_ROOT"
    )]
    pub containerd_root: Option<PathBuf>,
    /// Subnet of the pods in the private containerd.
    #[arg(
        long,
        global = true,
        value_name = "CIDR",
        default_value = "10.89.128.0/17"
    )]
    pub pod_cidr: PodCidr,
    /// Say more about what is done; twice for everything.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a VM from its manifest.
    Run(Box<RunArgs>),
    /// List the VMs.
    Ps {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Join a VM's serial console; Ctrl-] leaves it.
    Console(Vm),
    /// Stop a VM and remove its pod.
    Stop {
        /// The VM.
        #[command(flatten)]
        vm: Vm,
        /// Do not wait for the guest to power off.
        #[arg(long)]
        force: bool,
    },
    /// Print a VM's state as JSON (the fields of the OCI runtime spec).
    State(Vm),
    /// Print what a VM's console showed; the shim's own log goes to standard
    /// error.
    Logs {
        /// The VM.
        #[command(flatten)]
        vm: Vm,
        /// Go on as it grows.
        #[arg(long, short)]
        follow: bool,
    },
    /// Stop a VM's CPUs; its memory stays.
    Pause(Vm),
    /// Let a paused VM go on.
    Resume(Vm),
    /// Remove what killed commands and ended VMs left.
    Clean,
}

/// A VM that is there.
#[derive(Debug, Args)]
pub struct Vm {
    /// Name of the VM, or NAMESPACE/NAME.
    #[arg(value_name = "VM")]
    pub name: String,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Manifests: the VM, its claims, secrets and config maps; - is standard
    /// input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What plays a claim: a block device, an image file, or for a filesystem
    /// claim a directory. Repeatable.
    #[arg(long = "volume", value_name = "CLAIM=PATH")]
    pub volumes: Vec<VolumeArg>,
    /// Return once the guest runs.
    #[arg(long, conflicts_with = "stop_after")]
    pub detach: bool,
    /// The VM image [default: this version's].
    #[arg(long, value_name = "REF")]
    pub image: Option<String>,
    /// An archive that holds the VM image [default: vm.tar in the cache
    /// directory's images, then in target/images].
    #[arg(long, value_name = "FILE")]
    pub image_archive: Option<PathBuf>,
    /// An archive that holds the image for pod sandboxes [default: pause.tar,
    /// beside the VM image's].
    #[arg(long, value_name = "FILE")]
    pub pause_archive: Option<PathBuf>,
    /// Use the containerd behind this socket, not a private one.
    #[arg(long, value_name = "SOCKET")]
    pub containerd: Option<PathBuf>,
    /// How far the device plugin's KVM probe must get: open, run or kernel.
    #[arg(long, value_name = "LEVEL", default_value = "kernel")]
    pub kvm_probe: Level,
    /// The device plugin's program [default: beside coracle, then in PATH].
    #[arg(long, value_name = "PATH")]
    pub device_plugin: Option<PathBuf>,
    /// Power the guest off once the console has shown this text.
    #[arg(long, value_name = "TEXT")]
    pub stop_after: Option<String>,
    /// Write what was done as JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_run_with_everything_parses() {
        let cli = Cli::try_parse_from([
            "coracle",
            "run",
            "vm.yaml",
            "--volume",
            "web-root=/dev/loop0",
            "--kvm-probe",
            "run",
            "--stop-after",
            "login: ",
            "--state-dir",
            "/tmp/x",
            "--pod-cidr",
            "10.1.0.0/24",
        ])
        .expect("parses");
        let Command::Run(run) = cli.command else {
            panic!("not run")
        };
        assert_eq!(run.kvm_probe, Level::Run);
        assert_eq!(run.volumes[0].claim, "web-root");
        assert!(Cli::try_parse_from(["coracle", "run"]).is_err());
        assert!(Cli::try_parse_from(["coracle", "run", "x", "--volume", "nopath"]).is_err());
    }
}
