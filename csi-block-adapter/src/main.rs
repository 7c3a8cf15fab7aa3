//! `coracle-block`: shows what the device side of the raw block adapter sees.

mod report;

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
    report::TerminationReason,
    types::{CacheMode, DiscardMode, DiskBus, ErrorPolicy, IoMode},
};
use coracle_block::device::{self, DeviceError, DeviceFacts};

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
    /// Looks, read-only, and keeps nobody out: facts, who has it, and the
    /// options qemu would get.
    Inspect {
        /// A block device or a raw disk image.
        path: PathBuf,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
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
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            eprintln!("coracle-block: {error:#}");
            let reason = error.downcast_ref::<DeviceError>().map(DeviceError::reason);
            ExitCode::from(reason.map_or(exit::HOST, TerminationReason::exit_code))
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Inspect { path, json } => {
            let facts = device::inspect(&path)?;
            let disk = disk(&facts.path, facts.read_only, false);
            print(&disk, &facts, json)
        }
        Command::Open {
            path,
            read_only,
            shareable,
            json,
        } => {
            let disk = disk(text(&path)?, read_only, shareable);
            let facts = device::open(&disk)?.facts;
            print(&disk, &facts, json)
        }
    }
}

fn print(disk: &Disk, facts: &DeviceFacts, json: bool) -> anyhow::Result<()> {
    let report = report::Report::new(disk, facts, device::holders(facts)?);
    let text = if json {
        report.to_json()?
    } else {
        report.to_string()
    };
    writeln!(stdout(), "{text}").context("writing to standard output")
}

fn text(path: &Path) -> Result<&str, DeviceError> {
    path.to_str().ok_or_else(|| DeviceError::NotText {
        path: path.to_owned(),
    })
}

/// A disk as a manifest without wishes has it.
fn disk(path: &str, read_only: bool, shareable: bool) -> Disk {
    Disk {
        name: "disk".into(),
        source: DiskSource::File {
            path: path.into(),
            create_bytes: None,
        },
        bus: DiskBus::default(),
        cache: CacheMode::default(),
        io: IoMode::default(),
        discard: DiscardMode::default(),
        error_policy: ErrorPolicy::default(),
        read_only,
        shareable,
        serial: "disk".into(),
        boot_index: None,
        iothread: false,
        queues: None,
        block_size: None,
    }
}
