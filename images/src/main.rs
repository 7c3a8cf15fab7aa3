//! `coracle-images`: builds the project's container images.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use coracle_images::build::{Built, Request, build};
use coracle_images::recipe::Which;

/// Builds Coracle's container images from Debian packages and the given
/// programs, as OCI archives for `ctr -n k8s.io images import`.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the images, or find them built already
    Build(BuildArgs),
}

#[derive(clap::Args)]
struct BuildArgs {
    /// Where the archives go: vm.tar, device-plugin.tar, pause.tar,
    /// controller.tar, importer.tar
    /// [default: images/ in Coracle's cache]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Build only this image; may be given more than once
    #[arg(long, value_name = "IMAGE")]
    only: Vec<Which>,
    /// The coracle-shim program, for the images vm and pause
    #[arg(long, value_name = "PATH")]
    shim: Option<PathBuf>,
    /// The coracle-device-plugin program, for the image device-plugin
    #[arg(long, value_name = "PATH")]
    device_plugin: Option<PathBuf>,
    /// The coracle-controller program, for the image controller; without it
    /// that image is not built
    #[arg(long, value_name = "PATH")]
    controller: Option<PathBuf>,
    /// The coracle-block program, for the image importer; without it that
    /// image is not built
    #[arg(long, value_name = "PATH")]
    importer: Option<PathBuf>,
    /// Tag of the images
    #[arg(long, value_name = "V", default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// Time of every file in the images, in seconds since 1970
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SOURCE_DATE_EPOCH",
        default_value_t = 0
    )]
    epoch: u64,
}

fn main() -> ExitCode {
    let Args {
        command: Command::Build(args),
    } = Args::parse();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "coracle-images: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: BuildArgs) -> anyhow::Result<()> {
    let BuildArgs {
        out,
        only,
        shim,
        device_plugin,
        controller,
        importer,
        version,
        epoch,
    } = args;
    let cache = cache_dir()?;
    let out = out.unwrap_or_else(|| cache.join("images"));
    let request = Request {
        out,
        debs: cache.join("debs"),
        version,
        epoch,
    };
    // The controller runs in clusters alone, and not everybody imports images;
    // whoever builds for one machine is spared them.
    let usual = |which| match which {
        Which::Controller => controller.is_some(),
        Which::Importer => importer.is_some(),
        Which::Vm | Which::DevicePlugin | Which::Pause => true,
    };
    let wanted = Which::ALL.into_iter().filter(|which| {
        if only.is_empty() {
            usual(*which)
        } else {
            only.contains(which)
        }
    });
    for which in wanted {
        let program = match which {
            Which::Vm | Which::Pause => shim.as_ref().context("--shim is missing")?,
            Which::DevicePlugin => device_plugin
                .as_ref()
                .context("--device-plugin is missing")?,
            Which::Controller => controller.as_ref().context("--controller is missing")?,
            Which::Importer => importer.as_ref().context("--importer is missing")?,
        };
        let mut progress = |text: &str| {
            let _ = writeln!(io::stderr(), "coracle-images: {text}");
        };
        let built = build(&request, which, program, &mut progress)?;
        report(&built).context("writing to standard output")?;
    }
    Ok(())
}

fn report(built: &Built) -> io::Result<()> {
    let Built {
        identity,
        archive,
        cached,
    } = built;
    // Tenths of a MiB, rounded up: a goal is not met by rounding.
    let tenths = (identity.compressed_bytes * 10).div_ceil(1 << 20);
    writeln!(
        io::stdout(),
        "{}  {}  {}.{} MiB  {}{}",
        identity.name,
        identity.digest,
        tenths / 10,
        tenths % 10,
        archive.display(),
        if *cached { "  (unchanged)" } else { "" },
    )
}

fn cache_dir() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set: give --out")?;
    Ok(base.join("coracle"))
}
