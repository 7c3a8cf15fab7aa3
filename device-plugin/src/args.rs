//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use coracle_kvm_probe::Level;
use coracle_proto::deviceplugin::DIRECTORY;

use crate::config::{Config, Grant, PROBE_DIR, Reports};
use crate::host::Roots;
use crate::prober::Prober;

/// How many containers may have a device at once.
const DEFAULT_COUNT: u32 = 1000;

fn slots() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=50_000)
}

/// Advertises a node's devices to the kubelet: /dev/kvm as coracle.dev/kvm, tun,
/// vhost-net, vhost-vsock, and what a configuration file says.
#[derive(Debug, Parser)]
#[command(
    name = "coracle-device-plugin",
    version,
    args_conflicts_with_subcommands = true
)]
pub struct Args {
    /// What to do; `run` when nothing is said.
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register with the kubelet and serve it until SIGTERM (the default)
    Run(RunArgs),
    /// Run the probe once, say what it found, exit 0 if it passed, 1 if not
    Probe(ProbeArgs),
    /// Run the probe whenever the plugin asks, and report to it, until SIGTERM:
    /// for a container that was given the device through coracle.dev/kvm-probe
    Prober(ProberArgs),
    /// Show what this node would advertise and, where it would not, why
    Inspect(InspectArgs),
}

/// What `run` takes.
#[derive(Clone, Debug, ClapArgs)]
pub struct RunArgs {
    /// The kubelet's directory for device plugins; every kubelet has this one,
    /// but a strictly confined microk8s has it in /var/snap/microk8s/common
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    pub kubelet_dir: PathBuf,
    /// Where the plugin keeps its own device nodes; the same path on the host
    #[arg(long, value_name = "DIR", default_value = "/run/coracle/dev")]
    pub node_dir: PathBuf,
    /// Write CDI specifications here (/var/run/cdi, say) and let the container
    /// runtime make the nodes; needs a runtime that has CDI switched on
    #[arg(long, value_name = "DIR")]
    pub cdi_dir: Option<PathBuf>,
    /// Where the host's devices are seen
    #[arg(long, value_name = "DIR", default_value = "/dev")]
    pub dev_dir: PathBuf,
    /// Where the host's sysfs is seen
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    pub sys_dir: PathBuf,
    /// A YAML file of further resources: PCI, mediated, USB and character
    /// devices; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The kubelet's pod-resources socket: tells what is in use, so that no
    /// IOMMU group goes to two containers even after a restart, and every
    /// function of a group can be offered
    #[arg(long, value_name = "PATH")]
    pub pod_resources: Option<PathBuf>,
    /// The host's KVM, when it is not kvm in --dev-dir
    #[arg(long, value_name = "PATH")]
    pub kvm_device: Option<PathBuf>,
    /// How many containers may have KVM at once; 0: it is not advertised
    #[arg(long, value_name = "N", default_value_t = DEFAULT_COUNT, value_parser = slots())]
    pub kvm_count: u32,
    /// The same of /dev/net/tun
    #[arg(long, value_name = "N", default_value_t = DEFAULT_COUNT, value_parser = slots())]
    pub tun_count: u32,
    /// The same of /dev/vhost-net
    #[arg(long, value_name = "N", default_value_t = DEFAULT_COUNT, value_parser = slots())]
    pub vhost_net_count: u32,
    /// The same of /dev/vhost-vsock
    #[arg(long, value_name = "N", default_value_t = DEFAULT_COUNT, value_parser = slots())]
    pub vhost_vsock_count: u32,
    /// What KVM must be able to do to count as healthy: open, run, kernel
    #[arg(long, value_name = "LEVEL", default_value_t = Level::Kernel)]
    pub kvm_probe: Level,
    /// Where this process may not open the device, let a prober say whether a
    /// guest runs on it: advertise coracle.dev/kvm-probe, and listen in this
    /// directory for reports; the same path on the host
    #[arg(long, value_name = "DIR")]
    pub probe_dir: Option<PathBuf>,
    /// How long to go without a prober before the device is advertised because
    /// it is there
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "probe_dir",
          value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub prober_grace: u32,
    /// The container runtime's socket for plugins (NRI; in containerd 2
    /// /var/run/nri/nri.sock): lets containers that get a device of VFIO lock
    /// memory, where the runtime has one. Not used by default
    #[arg(long, value_name = "PATH")]
    pub nri_socket: Option<PathBuf>,
    /// Serve /metrics, /healthz and /readyz here, 0.0.0.0:8080 say
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct LogArgs {
    /// The least important events that are logged
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: tracing::Level,
    /// How events are logged
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// What `prober` takes.
#[derive(Clone, Debug, ClapArgs)]
pub struct ProberArgs {
    /// The device plugin's socket; its directory comes with the device
    #[arg(long, value_name = "PATH", default_value_os_t = default_socket())]
    pub socket: PathBuf,
    /// The device
    #[arg(long, value_name = "PATH", default_value = "/dev/kvm")]
    pub kvm_device: PathBuf,
    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogArgs,
}

fn default_socket() -> PathBuf {
    Reports {
        dir: PROBE_DIR.into(),
        grace: Duration::ZERO,
    }
    .socket()
}

impl From<ProberArgs> for Prober {
    fn from(args: ProberArgs) -> Self {
        let ProberArgs {
            socket, kvm_device, ..
        } = args;
        Self {
            socket,
            device: kvm_device,
        }
    }
}

/// What `probe` takes.
#[derive(Clone, Debug, ClapArgs)]
pub struct ProbeArgs {
    /// The device
    #[arg(long, value_name = "PATH", default_value = "/dev/kvm")]
    pub kvm_device: PathBuf,
    /// What KVM must be able to do: open, run, kernel
    #[arg(long, value_name = "LEVEL", default_value_t = Level::Kernel)]
    pub kvm_probe: Level,
}

/// What `inspect` takes.
#[derive(Clone, Debug, ClapArgs)]
pub struct InspectArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// How events are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A line of JSON.
    Json,
}

impl Args {
    /// What to do.
    #[must_use]
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.run))
    }
}

impl InspectArgs {
    /// What would be run.
    #[must_use]
    pub fn config(self) -> Config {
        self.run.into()
    }
}

impl From<RunArgs> for Config {
    fn from(args: RunArgs) -> Self {
        let RunArgs {
            kubelet_dir,
            node_dir,
            cdi_dir,
            dev_dir,
            sys_dir,
            config,
            pod_resources,
            kvm_device,
            kvm_count,
            tun_count,
            vhost_net_count,
            vhost_vsock_count,
            kvm_probe,
            probe_dir,
            prober_grace,
            nri_socket,
            listen,
            log: _,
        } = args;
        Self {
            kubelet_dir,
            roots: Roots {
                dev: dev_dir,
                sys: sys_dir,
            },
            kvm: kvm_device,
            kvm_count,
            counts: [tun_count, vhost_net_count, vhost_vsock_count],
            pod_resources,
            file: config,
            level: kvm_probe,
            grant: match cdi_dir {
                Some(dir) => Grant::Cdi { dir },
                None => Grant::Node { dir: node_dir },
            },
            prober: probe_dir.map(|dir| Reports {
                dir,
                grace: Duration::from_secs(prober_grace.into()),
            }),
            nri: nri_socket,
            listen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Command, clap::Error> {
        Args::try_parse_from([&["coracle-device-plugin"], words].concat()).map(Args::command)
    }

    #[test]
    fn run_is_what_is_meant_when_nothing_is_said() {
        for words in [&["--kvm-count", "3"][..], &["run", "--kvm-count", "3"]] {
            let Ok(Command::Run(args)) = parse(words) else {
                panic!("{words:?}")
            };
            let config = Config::from(args);
            assert_eq!((config.kvm_count, config.counts), (3, [1000; 3]));
            assert_eq!(config.kvm_device().to_str(), Some("/dev/kvm"));
            assert_eq!(config.level, Level::Kernel);
            assert_eq!(
                config.socket("coracle.dev/kvm").to_str(),
                Some("/var/lib/kubelet/device-plugins/coracle-kvm.sock")
            );
            assert_eq!(
                config.grant,
                Grant::Node {
                    dir: "/run/coracle/dev".into()
                }
            );
        }
        let Ok(Command::Run(args)) = parse(&["--probe-dir", "/p", "--prober-grace", "5"]) else {
            panic!("run")
        };
        let reports = Config::from(args).prober.expect("a prober");
        assert_eq!(reports.socket().to_str(), Some("/p/prober.sock"));
        assert_eq!(reports.grace, Duration::from_secs(5));
        let Ok(Command::Prober(args)) = parse(&["prober"]) else {
            panic!("prober")
        };
        assert_eq!(args.socket.to_str(), Some("/run/coracle/probe/prober.sock"));
        let Ok(Command::Inspect(args)) = parse(&["inspect", "--json", "--cdi-dir", "/c"]) else {
            panic!("inspect")
        };
        assert_eq!(args.config().grant, Grant::Cdi { dir: "/c".into() });
    }

    #[test]
    fn bad_values_are_refused_with_the_good_ones() {
        for (words, part) in [
            (&["--kvm-probe", "boot"][..], "open, run or kernel"),
            (&["--kvm-count=-1"], "0..=50000"),
            (&["--tun-count", "50001"], "0..=50000"),
            (&["--prober-grace", "1"], "--probe-dir"),
            (&["--listen", "8080"], "--listen"),
        ] {
            let error = parse(words).expect_err("bad").to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
