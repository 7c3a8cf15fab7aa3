//! The prober's side: connect, probe when asked, answer.

use std::path::PathBuf;
use std::time::Duration;

use coracle_kvm_probe::{Level, probe};
use tokio::net::UnixStream;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::wire::{Outcome, Question, Reply, WireError, printable, read, write};
use crate::check::chain;

/// The pause before the socket is tried again. Shorter than the plugin waits
/// for a prober when it starts.
const RETRY: Duration = Duration::from_millis(500);

/// What the prober works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prober {
    /// The plugin's socket.
    pub socket: PathBuf,
    /// The device that this process was given.
    pub device: PathBuf,
}

/// Answers the plugin until it is stopped. The plugin may go and come as it
/// likes.
pub async fn prober(prober: Prober, stop: CancellationToken) {
    let _ = stop.run_until_cancelled(forever(&prober)).await;
    info!("stopped");
}

async fn forever(prober: &Prober) {
    let mut said = Said::default();
    loop {
        match UnixStream::connect(&prober.socket).await {
            Ok(plugin) => {
                said.unreachable = false;
                info!("reporting to the device plugin");
                let error = serve(prober, plugin, &mut said).await;
                info!(why = chain(&error), "the device plugin does not listen");
            }
            Err(error) if !said.unreachable => {
                said.unreachable = true;
                warn!(socket = %prober.socket.display(), %error, "waiting for the device plugin");
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

/// What the log holds already.
#[derive(Default)]
struct Said {
    unreachable: bool,
    /// Whether the last probe passed.
    passed: Option<bool>,
}

/// Answers until that is not possible any more.
async fn serve(prober: &Prober, mut plugin: UnixStream, said: &mut Said) -> WireError {
    loop {
        let question: Question = match read(&mut plugin).await {
            Ok(question) => question,
            Err(error) => return error,
        };
        let outcome = run(prober.device.clone(), question.level).await;
        tell(&outcome, said);
        let reply = Reply {
            id: question.id,
            outcome,
        };
        if let Err(error) = write(&mut plugin, &reply).await {
            return error;
        }
    }
}

async fn run(device: PathBuf, level: Level) -> Outcome {
    match tokio::task::spawn_blocking(move || probe(&device, level)).await {
        Ok(Ok(report)) => Outcome::Passed {
            level: report.level,
        },
        Ok(Err(error)) => Outcome::Failed {
            reason: printable(&chain(&error)),
        },
        Err(error) => Outcome::Failed {
            reason: format!("the probe failed: {error}"),
        },
    }
}

/// Logs what changed.
fn tell(outcome: &Outcome, said: &mut Said) {
    let passed = matches!(outcome, Outcome::Passed { .. });
    if said.passed.replace(passed) != Some(passed) {
        match outcome {
            Outcome::Passed { level } => info!(%level, "a guest runs"),
            Outcome::Failed { reason } => warn!(reason, "no guest runs"),
        }
    }
}
