//! `coracle-bench`: measures Coracle beside bare qemu in one run, and prints a
//! table.
//!
//! Every comparison runs both sides in turn, pair by pair, with the very same
//! qemu arguments: on a busy machine only that says anything. Where a wall
//! clock cannot tell (a guest that boots under emulation), CPU seconds stand
//! beside it.
//! It judges nothing: the goals are printed beside what was measured.

mod bare;
mod boot;
mod device;
mod expand;
mod guest;
mod host;
mod import;
mod io;
mod line;
mod memory;
mod plugin;
mod pods;
mod process;
mod shim;
mod sizes;
mod start;
mod stats;
mod table;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use stats::Results;

/// Measures Coracle beside bare qemu on this machine.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Directory with the coracle-shim and coracle-device-plugin that pods
    /// run
    #[arg(long, value_name = "DIR")]
    pod_programs: PathBuf,
    /// The coracle-block program; without it no import is measured
    #[arg(long, value_name = "PATH")]
    block: Option<PathBuf>,
    /// The coracle program; without it nothing is measured in a pod
    #[arg(long, value_name = "PATH")]
    coracle: Option<PathBuf>,
    /// Directory with the guest's `vmlinuz` and `initrd`
    #[arg(long, value_name = "DIR")]
    guest: PathBuf,
    /// Directory with the images' archives
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// The boot sector that only spins, as a disk image
    #[arg(long, value_name = "PATH")]
    spinner: PathBuf,
    /// The boot sector that says its disk's size; without it no expansion is
    /// measured
    #[arg(long, value_name = "PATH")]
    sizer: Option<PathBuf>,
    /// The coracle-bench-load program; without it no I/O is measured
    #[arg(long, value_name = "PATH")]
    load: Option<PathBuf>,
    /// qemu
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/usr/bin/qemu-system-x86_64"
    )]
    qemu: PathBuf,
    /// Pairs of guest boots
    #[arg(long, value_name = "N", default_value_t = 9)]
    pairs: usize,
    /// Pairs of guest boots in pods
    #[arg(long, value_name = "N", default_value_t = 5)]
    pod_pairs: usize,
    /// Pairs of starts up to the first guest instruction
    #[arg(long, value_name = "N", default_value_t = 15)]
    start_pairs: usize,
    /// Measure only this; may be given more than once
    #[arg(long, value_name = "WHAT")]
    only: Vec<What>,
    /// Write the results here too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// From the shim's start to the guest's first line
    Boot,
    /// From `coracle run` to the guest's first line
    Pod,
    /// From the shim's start to the first guest instruction
    Start,
    /// Putting an image onto a block device
    Import,
    /// What a guest's disk does
    Io,
    /// From a device's growth to the guest
    Expand,
    /// Memory and idle wakeups of the shim and the device plugin
    Memory,
    /// The device plugin: registration, lists, allocation, flips
    Plugin,
    /// Sizes of programs and images
    Size,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "coracle-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let wanted = |what| args.only.is_empty() || args.only.contains(&what);
    let mut results = Results::new(host::describe(&args.qemu)?);
    let setup = shim::Setup {
        shim: args.pod_programs.join("coracle-shim"),
        qemu: args.qemu.clone(),
    };
    let linux = guest::Linux::new(&args.guest);
    if wanted(What::Size) {
        sizes::measure(&args.pod_programs, args.images.as_deref(), &mut results)?;
    }
    if wanted(What::Memory) {
        memory::measure(&setup, &linux, &args.pod_programs, &mut results)?;
    }
    if wanted(What::Plugin) {
        let program = args.pod_programs.join("coracle-device-plugin");
        plugin::measure(&program, &mut results)?;
    }
    if wanted(What::Start) {
        start::measure(&setup, &args.spinner, args.start_pairs, &mut results)?;
    }
    if wanted(What::Boot) {
        boot::measure(&setup, &linux, args.pairs, &mut results)?;
    }
    if let Some(coracle) = args.coracle.as_deref().filter(|_| wanted(What::Pod)) {
        pods::measure(coracle, &setup, &linux, args.pod_pairs, &mut results)?;
    }
    if let Some(block) = args.block.as_deref().filter(|_| wanted(What::Import)) {
        import::measure(block, args.pairs, &mut results)?;
    }
    if let Some(load) = args.load.as_deref().filter(|_| wanted(What::Io)) {
        io::measure(&setup, &linux, load, args.pairs, &mut results)?;
    }
    if let Some(sizer) = args.sizer.as_deref().filter(|_| wanted(What::Expand)) {
        expand::measure(&setup, sizer, args.pairs, &mut results)?;
    }
    results.load_after = host::load()?;
    table::print(&results)?;
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&results)?)?;
    }
    Ok(())
}
