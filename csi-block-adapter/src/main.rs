//! `coracle-block`: shows what the device side of the raw block adapter sees,
//! and with feature `import` fills disks from images and copies them off.

#[cfg(feature = "claim")]
mod explain;
mod report;
#[cfg(feature = "import")]
mod transfer;

use std::{
    io::{Write as _, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use coracle_api::{
    machine::{Disk, DiskSource},
    names::exit,
    report::{TerminationMessage, TerminationReason},
};
use coracle_block::{
    device::{self, DeviceError},
    qemu::Host,
    uring,
};

use self::report::Report;

/// Shows what a block device or disk image offers to a VM.
///
/// Exit codes: 0 all is well; 2 the command line or the disk's settings are
/// wrong; 3 the device cannot be used.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Looks, read-only, and keeps nobody out: facts, who has it, partition
    /// table and file systems, and the options qemu would get and why.
    Inspect {
        /// A block device or a raw disk image.
        path: PathBuf,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Says in plain words how something reaches a guest, and what can be done
    /// with it.
    #[cfg(feature = "claim")]
    Explain {
        #[command(subcommand)]
        what: Explain,
    },
    /// Opens exactly as a VM would, exclusively, and closes at once: tells
    /// whether a VM that starts here and now could have the disk.
    Open {
        /// A block device or a raw disk image.
        path: PathBuf,
        /// As a disk with readOnly: true.
        #[arg(long)]
        read_only: bool,
        /// As a disk with shareable: true.
        #[arg(long)]
        shareable: bool,
        /// Creates a sparse image of this size where nothing is there.
        #[arg(long, value_name = "BYTES")]
        create_bytes: Option<u64>,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Puts an image onto a block device or into an image file.
    #[cfg(feature = "import")]
    Import(transfer::ImportArgs),
    /// Copies a disk that nothing uses into a new, sparse file.
    #[cfg(feature = "import")]
    Export(transfer::ExportArgs),
}

/// What can be explained.
#[cfg(feature = "claim")]
#[derive(Subcommand)]
enum Explain {
    /// A PersistentVolumeClaim: kubectl get -o json
    /// pvc,pv,storageclass,csidriver,csinode | coracle-block explain claim NAME
    Claim {
        /// Name of the claim.
        name: String,
        /// Its namespace, where several claims have the name.
        #[arg(long, short)]
        namespace: Option<String>,
        /// A file with the objects, or - for standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let command = Args::parse().command;
    #[cfg(feature = "import")]
    let command = match command {
        Command::Import(args) => return transfer::import(args),
        Command::Export(args) => return transfer::export(args),
        command => command,
    };
    let json = matches!(
        command,
        Command::Inspect { json: true, .. } | Command::Open { json: true, .. }
    );
    match run(command) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => ExitCode::from(fail(&error, json)),
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Inspect { path, json } => {
            let facts = device::inspect(&path)?;
            let disk = Disk {
                read_only: facts.read_only,
                ..disk(&facts.path, None)
            };
            let report = Report::new(&disk, &facts, device::holders(&facts)?, host())
                .with_content(device::content(&facts)?);
            print(&if json {
                report.to_json()?
            } else {
                report.to_string()
            })
        }
        #[cfg(feature = "claim")]
        Command::Explain { what } => {
            let Explain::Claim {
                name,
                namespace,
                file,
                json,
            } = what;
            let found = explain::explain_claim(&name, namespace.as_deref(), &file)?;
            print(&if json {
                serde_json::to_string(&found)?
            } else {
                found.to_string()
            })
        }
        Command::Open {
            path,
            read_only,
            shareable,
            create_bytes,
            json,
        } => {
            let disk = Disk {
                read_only,
                shareable,
                ..disk(text(&path)?, create_bytes)
            };
            let open = device::open(&disk)?;
            // The only holder left is this process, or one it shares with.
            let report = Report::new(&disk, &open.facts, vec![], host());
            print(&if json {
                report.to_json()?
            } else {
                report.to_string()
            })
        }
        #[cfg(feature = "import")]
        Command::Import(_) | Command::Export(_) => unreachable!("main took them"),
    }
}

/// Reports a failure, and tells the exit code. As JSON it is what the shim
/// would leave as termination message.
fn fail(error: &anyhow::Error, json: bool) -> u8 {
    let reason = error
        .downcast_ref()
        .map_or(TerminationReason::HostFailed, DeviceError::reason);
    let message = TerminationMessage {
        reason,
        message: format!("{error:#}"),
        disk: None,
    };
    if !json || print(&message.to_json()).is_err() {
        eprintln!("coracle-block: {}", message.message);
    }
    reason.exit_code()
}

fn print(text: &str) -> anyhow::Result<()> {
    writeln!(stdout(), "{text}").context("writing to standard output")
}

fn text(path: &Path) -> Result<&str, DeviceError> {
    path.to_str().ok_or_else(|| DeviceError::NotText {
        path: path.to_owned(),
    })
}

/// This machine, as a VM with one virtual CPU would find it.
fn host() -> Host {
    Host {
        vcpus: 1,
        io_uring: uring::probe(Path::new("/usr/bin/qemu-system-x86_64")),
    }
}

/// A disk as a manifest without wishes has it.
fn disk(path: &str, create_bytes: Option<u64>) -> Disk {
    let path = path.into();
    Disk::plain("disk", DiskSource::File { path, create_bytes })
}
