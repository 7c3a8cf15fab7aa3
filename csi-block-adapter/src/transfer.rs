//! `coracle-block import` and `export`: arguments, progress, and how they end.
//!
//! Exit codes: 0 done; 1 it may work the next time; 2 it will not before the
//! command, the source or the target is another; 3 the host failed. The same
//! as a termination message of a pod with `--termination-log`.

use std::{
    fs,
    io::{IsTerminal as _, Write as _, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use coracle_api::{
    names::exit,
    report::{TerminationMessage, TerminationReason},
};
use coracle_block::{
    export::{self, Compress, Format},
    import::{self, ImportError, Outcome, Progress, Remote, Request, Source, source},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix::sys::signal::{SigSet, Signal};

/// Between two lines of a log.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// Between two looks of a bar.
const BAR_EVERY: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The image, raw or qcow2, as it is or in gzip, zstd or xz: a path, - for
    /// standard input, an http(s) URL, or `docker://host/name:tag` with #path for a
    /// file in a container image (without it, the file in /disk/).
    source: String,
    /// The block device or raw image file to fill.
    target: String,
    /// Refuses the disk unless the source has this sum, sha256:…
    #[arg(long, value_name = "SUM")]
    checksum: Option<String>,
    /// Fills the target although it holds data, which is lost.
    #[arg(long)]
    overwrite: bool,
    /// Takes the source as it is, whatever it looks like: neither an archive
    /// nor a qcow2 image.
    #[arg(long)]
    raw: bool,
    /// Size of a file that is to be made, in bytes [default: the image's]
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,
    /// Written when the target is filled; a target that was filled, says this
    /// file, is left alone.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    ending: Ending,
    /// Writes through the page cache.
    #[arg(long, hide = true)]
    cached: bool,
}

/// How servers are asked.
#[derive(Args)]
struct RemoteArgs {
    /// Certificate authorities (PEM) in place of the built-in ones.
    #[arg(long, value_name = "FILE", env = "SSL_CERT_FILE")]
    ca_file: Option<PathBuf>,
    /// Credentials for registries, as in Docker's config.json.
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
    /// Asks the registry without TLS.
    #[arg(long)]
    plain_http: bool,
}

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// The block device or raw image file.
    disk: PathBuf,
    /// The file to make.
    file: PathBuf,
    /// Its form [default: qcow2 when the name ends so, else raw]
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Compresses clusters; qcow2 alone.
    #[arg(long, value_enum)]
    compress: Option<CompressArg>,
    #[command(flatten)]
    ending: Ending,
}

#[derive(Args)]
struct Ending {
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Says nothing while it works.
    #[arg(long)]
    quiet: bool,
    /// Leaves a failure there, as JSON, with the disk's name.
    #[arg(long, value_name = "FILE")]
    termination_log: Option<PathBuf>,
    /// The disk's name in messages.
    #[arg(long = "disk", id = "disk-name", value_name = "NAME")]
    name: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatArg {
    Raw,
    Qcow2,
}

#[derive(Clone, Copy, ValueEnum)]
enum CompressArg {
    Zlib,
    Zstd,
}

/// Runs `import`.
pub(crate) fn import(args: ImportArgs) -> ExitCode {
    let ImportArgs {
        source,
        target,
        checksum,
        overwrite,
        raw,
        size,
        record,
        remote,
        ending,
        cached,
    } = args;
    end_at_sigterm();
    let result = Source::parse(&source).and_then(|source| {
        let request = Request {
            source,
            target: target.clone(),
            checksum: checksum.as_deref().map(source::checksum).transpose()?,
            overwrite,
            raw,
            size,
            record,
            direct: !cached,
            remote: Remote {
                authorities: remote.ca_file,
                credentials: remote.auth_file,
                plain_http: remote.plain_http,
                ..Remote::default()
            },
        };
        watched(&ending, |progress| import::import(&request, progress))
    });
    end(&ending, &result, |outcome| match outcome {
        Outcome::Imported {
            format,
            size_bytes,
            sha256,
        } => {
            let sum = sha256.as_ref().map(|sum| format!(", sha256:{sum}"));
            let sum = sum.unwrap_or_default();
            format!("{target} is filled: {format}, {size_bytes} bytes{sum}")
        }
        Outcome::AlreadyImported => format!("{target} was filled before: nothing to do"),
    })
}

/// Ends the program when it is asked to: as the first process of a container
/// it would not be by itself. The target says that it is half filled.
fn end_at_sigterm() {
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    // Before any other thread is there, so that all of them leave it to this.
    if term.thread_block().is_ok() {
        thread::spawn(move || {
            if term.wait().is_ok() {
                std::process::exit(128 + Signal::SIGTERM as i32);
            }
        });
    }
}

/// Runs `export`.
pub(crate) fn export(args: ExportArgs) -> ExitCode {
    let ExportArgs {
        disk,
        file,
        format,
        compress,
        ending,
    } = args;
    let by_name = || {
        if file.extension().is_some_and(|end| end == "qcow2") {
            FormatArg::Qcow2
        } else {
            FormatArg::Raw
        }
    };
    let compress = compress.map(|compress| match compress {
        CompressArg::Zlib => Compress::Zlib,
        CompressArg::Zstd => Compress::Zstd,
    });
    let format = match format.unwrap_or_else(by_name) {
        FormatArg::Raw if compress.is_none() => Format::Raw,
        FormatArg::Raw => {
            let _ = writeln!(stderr(), "coracle-block: --compress needs --format qcow2");
            return ExitCode::from(exit::CONFIG);
        }
        FormatArg::Qcow2 => Format::Qcow2(compress),
    };
    let disk = disk.display().to_string();
    let result = watched(&ending, |progress| {
        export::export(&disk, &file, format, progress)
    });
    end(&ending, &result, |bytes| {
        format!("{} is complete: {bytes} bytes of {disk}", file.display())
    })
}

/// Does it while another thread tells how far it is.
fn watched<T>(
    ending: &Ending,
    work: impl FnOnce(&Arc<Progress>) -> Result<T, ImportError>,
) -> Result<T, ImportError> {
    let progress = Arc::new(Progress::default());
    if ending.quiet {
        return work(&progress);
    }
    let (done, ended) = channel::<()>();
    let bar = stderr().is_terminal().then(new_bar);
    let every = if bar.is_some() { BAR_EVERY } else { LOG_EVERY };
    let start = Instant::now();
    thread::scope(|scope| {
        let progress = &progress;
        scope.spawn(move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let now = progress.at(start.elapsed());
                match &bar {
                    Some(bar) => {
                        bar.set_length(now.total.unwrap_or_else(|| now.done.max(1)));
                        bar.set_position(now.done);
                        bar.set_message(now.to_string());
                    }
                    None => {
                        let _ = writeln!(stderr(), "coracle-block: {now}");
                    }
                }
            }
            if let Some(bar) = &bar {
                bar.finish_and_clear();
            }
        });
        let result = work(progress);
        drop(done);
        result
    })
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("[{bar:30}] {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Says how it ended, and gives the exit code.
fn end<T: serde::Serialize>(
    ending: &Ending,
    result: &Result<T, ImportError>,
    text: impl FnOnce(&T) -> String,
) -> ExitCode {
    let (code, line) = match result {
        Ok(value) if ending.json => (exit::OK, serde_json::to_string(value).ok()),
        Ok(value) => (exit::OK, Some(text(value))),
        Err(error) => {
            let message = message(error, ending.name.clone());
            let _ = writeln!(stderr(), "coracle-block: {}", message.message);
            if let Some(path) = &ending.termination_log
                && let Err(error) = fs::write(path, message.to_json())
            {
                let _ = writeln!(stderr(), "coracle-block: {}: {error}", path.display());
            }
            let json = ending.json.then(|| message.to_json());
            (message.reason.exit_code(), json)
        }
    };
    match line.map_or(Ok(()), |line| writeln!(stdout(), "{line}")) {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::from(TerminationReason::HostFailed.exit_code().max(code)),
    }
}

fn message(error: &ImportError, disk: Option<String>) -> TerminationMessage {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        // An error that says the same as its cause says it once.
        if !message.ends_with(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    TerminationMessage {
        reason: error.reason(),
        message,
        disk,
    }
}
