//! The process around the controller: signals, client, runtime.

use anyhow::Context;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::cluster::lease::Election;
use crate::cluster::metrics::Metrics;
use crate::cluster::{self, Options};

/// Name of the lease.
const LEASE: &str = "coracle-controller";

/// Runs the controller until SIGTERM or SIGINT.
///
/// # Errors
/// What ended it before.
pub fn run(args: Args) -> anyhow::Result<()> {
    // Before there is a second thread.
    coracle_heap::one_heap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let config = Config::infer().await;
    let config = config.context("no cluster: set KUBECONFIG, or run in a pod with a token")?;
    let client = Client::try_from(config).context("making the API client")?;
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("listening on {}", args.listen))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let patience = args.patience();
    let options = Options {
        listener,
        image: args.image,
        importer: args.importer_image,
        election: Election::new(args.namespace, LEASE.into(), identity(args.identity)),
        patience,
        metrics: Metrics::default(),
    };
    let stop = CancellationToken::new();
    let mut running = std::pin::pin!(cluster::run(client, options, stop.clone()));
    tokio::select! {
        ended = &mut running => return ended,
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("stopping");
    stop.cancel();
    tokio::select! {
        ended = running => ended,
        _ = term.recv() => anyhow::bail!("stopped by a second signal"),
        _ = int.recv() => anyhow::bail!("stopped by a second signal"),
    }
}

/// Two replicas must never share a name: without one from outside, the host's
/// and the process' together are unique.
fn identity(given: Option<String>) -> String {
    given.unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}-{}", host.trim(), std::process::id())
    })
}
