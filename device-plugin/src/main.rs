//! `coracle-device-plugin`: a hand-off to the library.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use coracle_device_plugin::args::{Args, Command, LogArgs, LogFormat, ProberArgs, RunArgs};
use coracle_device_plugin::{inspect, prober, run};
use coracle_heap::one_heap;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let done = match Args::parse().command() {
        Command::Run(args) => serve(args),
        Command::Prober(args) => report(args),
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

/// Runs the plugin until SIGTERM or SIGINT.
fn serve(args: RunArgs) -> anyhow::Result<()> {
    let log = args.log;
    until_stopped(log, |stop| async { Ok(run(args.into(), stop).await?) })
}

/// Runs the prober until SIGTERM or SIGINT.
fn report(args: ProberArgs) -> anyhow::Result<()> {
    let log = args.log;
    until_stopped(log, |stop| async {
        prober(args.into(), stop).await;
        Ok(())
    })
}

/// Runs something that ends when it is stopped. One thread does all but what
/// blocks: memory is what a plugin that mostly waits costs. A probe of KVM may
/// take a second, and the other devices do not wait for it.
fn until_stopped<F: Future<Output = anyhow::Result<()>>>(
    log: LogArgs,
    work: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<()> {
    one_heap();
    let events = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(log.log_level)
        // A log that nobody reads any more is no reason to end.
        .log_internal_errors(false)
        .with_target(false);
    match log.log_format {
        LogFormat::Text => events.with_ansi(false).init(),
        LogFormat::Json => events.json().init(),
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_stack_size(512 << 10)
        // They are needed every ten seconds at most.
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let (mut term, mut int) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let stop = CancellationToken::new();
        let mut work = std::pin::pin!(work(stop.clone()));
        tokio::select! {
            ended = &mut work => return ended,
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        stop.cancel();
        tokio::select! {
            ended = work => ended,
            _ = term.recv() => anyhow::bail!("stopped by a second signal"),
            _ = int.recv() => anyhow::bail!("stopped by a second signal"),
        }
    })
}
