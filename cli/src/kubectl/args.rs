//! The command line of `kubectl coracle`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::age;
use super::create::CreateArgs;

/// Virtual machines that run as pods, in a cluster.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-coracle",
    bin_name = "kubectl coracle",
    version,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Which cluster, which namespace.
    #[command(flatten)]
    pub global: Global,
}

const EXAMPLES: &str = "\
Examples:
  kubectl coracle list -A
  kubectl coracle create --name web --memory 2Gi --disk root=claim:web-root --apply
  kubectl coracle console web          Ctrl-] leaves
  kubectl coracle stop web --wait
  kubectl coracle describe web

It exits with 1 when something failed, and with 2 when the command line is wrong.";

/// Which cluster, which namespace; as kubectl has them.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Namespace [default: the context's].
    #[arg(long, short, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig [default: its current one].
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig [default: KUBECONFIG, then ~/.kube/config].
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Say more about what is done; twice for everything.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List VMs with their phases.
    List(ListArgs),
    /// Start VMs that do not run, with the run policy they had before they
    /// were stopped.
    Start(PowerArgs),
    /// Power VMs off, and keep them off: sets the run policy to Halted.
    Stop(PowerArgs),
    /// Power VMs off and start them in new pods; applies what has changed.
    Restart(PowerArgs),
    /// Stop VMs' virtual CPUs; their memory stays.
    Pause(PowerArgs),
    /// Let paused VMs go on.
    Resume(PowerArgs),
    /// Join a VM's serial console; Ctrl-] leaves it. Joins again when the VM
    /// restarts.
    Console {
        /// The VM.
        #[arg(value_name = "VM")]
        vm: String,
    },
    /// Print what a VM's console showed, and the shim's own log.
    Logs(LogsArgs),
    /// Show a VM with its pod, disks, devices, conditions and events, and what
    /// to do next.
    Describe {
        /// The VM.
        #[arg(value_name = "VM")]
        vm: String,
    },
    /// Print a manifest made from flags, or apply it.
    Create(Box<CreateArgs>),
    /// Check manifests without a cluster, as the API server would.
    Validate {
        /// Files of YAML documents; - is standard input.
        #[arg(long = "filename", short = 'f', required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Of all namespaces.
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// Only those with these labels.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// More columns, or the objects themselves.
    #[arg(long, short, value_enum)]
    pub output: Option<Output>,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// With CPUs, memory, run policy and pod.
    Wide,
    /// The objects as JSON.
    Json,
    /// The objects as YAML.
    Yaml,
}

/// Arguments of `start` and its like.
#[derive(Debug, Args)]
pub struct PowerArgs {
    /// The VMs.
    #[arg(required = true, value_name = "VM")]
    pub vms: Vec<String>,
    /// Return once it is so.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait at most: 30s, 5m, 1h.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = age::parse)]
    pub timeout: Duration,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The VM.
    #[arg(value_name = "VM")]
    pub vm: String,
    /// Go on as it grows.
    #[arg(long, short)]
    pub follow: bool,
    /// Of the VM's run before the last restart in place.
    #[arg(long, short)]
    pub previous: bool,
    /// Only the last lines.
    #[arg(long, value_name = "LINES")]
    pub tail: Option<i64>,
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
    fn kubectls_flags_may_stand_before_and_behind_the_command() {
        for line in [
            "kubectl-coracle -n shop list -o wide",
            "kubectl-coracle list --output wide --namespace shop",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            assert_eq!(cli.global.namespace.as_deref(), Some("shop"));
            let Command::List(list) = cli.command else {
                panic!("{line}");
            };
            assert_eq!(list.output, Some(Output::Wide));
        }
    }
}
