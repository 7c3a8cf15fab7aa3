//! The controller: watches VMs, pods and claims, and leads or stands by.
//!
//! ```text
//!  watches ─▶ reconcile: observe ─▶ decide ─▶ apply ─▶ status
//!                        caches     pure      writes   pure, then one write
//! ```
//!
//! What it must never do: talk to a node, to qemu or to a shim; keep state of
//! its own (all of it is in the VM's status and its pod); own a finalizer. A
//! VM outlives the controller, and is deleted without it.
//!
//! # Guarantee
//! No two pods of one VM that could both write. A pod's name holds its
//! incarnation and can be created once; the next one is created only when the
//! API server, not a cache, says that the last one is gone, or when its
//! kubelet reported every container terminated. The assumption: a request that
//! a leader sent has arrived when the next leader begins, or never does. A
//! leader sends none once its lease is ten seconds old, and the next one waits
//! for fifteen. Where the assumption fails there is the claim itself: use
//! `ReadWriteOncePod`, and the shim opens block devices exclusively.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{Restarts, Settings};

pub mod apply;
pub mod by_claim;
pub mod context;
pub mod decide;
pub mod events;
pub mod facts;
mod few;
pub mod frozen;
pub mod gate;
pub mod http;
pub mod index;
pub mod kept;
mod lead;
pub mod lease;
pub mod metrics;
pub mod notes;
pub mod observe;
pub mod packed;
pub mod reconcile;
pub mod refusal;
pub mod retries;
pub mod status;
pub mod storage;
pub mod superseded;
#[cfg(test)]
mod testing;
pub mod unreadable;

use context::Term;
use http::Readiness;
use lease::{Candidate, Election};
use metrics::Metrics;

/// The server version whose kubelets restart containers by exit code without
/// a feature gate.
const RESTART_RULES: (u32, u32) = (1, 35);

/// What the controller needs beside the API server.
pub struct Options {
    /// Reference of the VM image.
    pub image: String,
    /// Reference of the importer's image.
    pub importer: String,
    /// How replicas agree on who leads.
    pub election: Election,
    /// See [`Term::patience`].
    pub patience: Duration,
    /// Where `/metrics` and its like are served.
    pub listener: TcpListener,
    /// Where everything is counted.
    pub metrics: Metrics,
}

/// Runs a replica until `stop`: stands by, leads, hands over.
///
/// # Errors
/// What ended it before it was asked to stop: the lease was lost, or a task.
///
/// # Cancellation
/// Dropped, it leaves the lease to expire and no task behind.
pub async fn run(client: Client, options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let Options {
        image,
        importer,
        election,
        patience,
        listener,
        metrics,
    } = options;
    let (readiness, watched) = watch::channel(Readiness::default());
    let (mut tasks, answering) = (JoinSet::new(), CancellationToken::new());
    let served = http::serve(listener, watched, metrics.clone(), answering.clone());
    tasks.spawn(served);

    let restarts = restarts(&client).await?;
    let settings = Settings {
        image,
        importer,
        restarts,
    };
    readiness.send_replace(Readiness::Standby);
    let mut candidate = Candidate::new(client.clone(), election);
    tokio::select! {
        () = candidate.win() => {}
        () = stop.cancelled() => return Ok(()),
        Some(ended) = tasks.join_next() => return Err(early(ended)),
    }
    let term = Term {
        client,
        settings,
        patience,
        tenure: candidate.tenure(),
        metrics,
    };
    let leading = lead::lead(term, readiness, stop);
    let ended = tokio::select! {
        ended = leading => ended,
        lost = candidate.keep() => return Err(lost.into()),
        Some(ended) = tasks.join_next() => Err(early(ended)),
    };
    candidate.release().await;
    answering.cancel();
    let rest = async { while tasks.join_next().await.is_some() {} };
    // A client that keeps its connection open must not keep the process.
    let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
    ended
}

fn early(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("the HTTP server ended by itself"),
        Ok(Err(error)) => anyhow::Error::from(error).context("the HTTP server failed"),
        Err(error) => anyhow::Error::from(error).context("the HTTP server panicked"),
    }
}

/// How this cluster's kubelets are told when to start a container again.
async fn restarts(client: &Client) -> anyhow::Result<Restarts> {
    let version = client.apiserver_version().await;
    let version = version.context("asking the API server for its version")?;
    let number = |text: &str| -> u32 {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    };
    let restarts = if (number(&version.major), number(&version.minor)) >= RESTART_RULES {
        Restarts::ByExitCode
    } else {
        Restarts::ByPod
    };
    info!(
        server = version.git_version,
        ?restarts,
        "the API server answers"
    );
    Ok(restarts)
}
