//! `coracle-device-plugin`: a hand-off to the library.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use coracle_device_plugin::args::{Args, Command, LogFormat, RunArgs};
use coracle_device_plugin::{inspect, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let done = match Args::parse().command() {
        Command::Run(args) => serve(args),
        Command::Probe(args) => coracle_kvm_probe::probe(&args.kvm_device, args.kvm_probe)
            .map_err(anyhow::Error::from)
            .and_then(|report| Ok(writeln!(io::stdout(), "{report}")?)),
        Command::Inspect(args) => {
            let json = args.json;
            let found = inspect(&args.config());
            let text = if json {
                found.to_json()
            } else {
                found.to_string()
            };
            writeln!(io::stdout(), "{text}").map_err(anyhow::Error::from)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "coracle-device-plugin: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the plugin until SIGTERM or SIGINT. One thread does all but the
/// probe: memory is what a plugin that mostly waits costs.
fn serve(args: RunArgs) -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(args.log_level)
        .with_target(false);
    match args.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_stack_size(512 << 10)
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let (mut term, mut int) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let stop = CancellationToken::new();
        let mut plugin = std::pin::pin!(run(args.into(), stop.clone()));
        tokio::select! {
            ended = &mut plugin => return Ok(ended?),
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        stop.cancel();
        tokio::select! {
            ended = plugin => Ok(ended?),
            _ = term.recv() => anyhow::bail!("stopped by a second signal"),
            _ = int.recv() => anyhow::bail!("stopped by a second signal"),
        }
    })
}
