//! Whether the device can be handed out, kept up to date by one task: at
//! first, after every event at the device, and slowly for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::check::{chain, check};
use crate::config::Config;

/// How often a healthy device is probed. A module that is unloaded or swapped
/// makes an event; this finds what makes none.
const HEALTHY_INTERVAL: Duration = Duration::from_secs(60);
/// How often an unhealthy device is.
const UNHEALTHY_INTERVAL: Duration = Duration::from_secs(30);
/// The least time between two probes: each change of the list makes the
/// kubelet write a file to disk, so a device that flaps is told of ten times
/// a second at most.
const SETTLE: Duration = Duration::from_millis(100);

/// Whether the device can be handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It has not been looked at.
    Unknown,
    /// It can.
    Healthy,
    /// It cannot.
    Unhealthy {
        /// Why, for people.
        reason: String,
    },
}

impl Health {
    /// Why the device cannot be handed out; nothing if it can.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Unknown => Some("it has not been probed yet"),
            Self::Healthy => None,
            Self::Unhealthy { reason } => Some(reason),
        }
    }
}

/// Keeps the health up to date until it is stopped.
pub(crate) async fn keep(
    config: Arc<Config>,
    health: watch::Sender<Health>,
    changed: Arc<Notify>,
    stop: CancellationToken,
) {
    let _ = stop
        .run_until_cancelled(forever(config, health, changed))
        .await;
}

async fn forever(config: Arc<Config>, health: watch::Sender<Health>, changed: Arc<Notify>) {
    loop {
        let now = look(config.clone()).await;
        publish(&health, now.clone());
        tokio::time::sleep(SETTLE).await;
        let interval = if now == Health::Healthy {
            HEALTHY_INTERVAL
        } else {
            UNHEALTHY_INTERVAL
        };
        // Either is a reason to look again. An event during the probe or just
        // after it is kept by the notifier.
        let _ = tokio::time::timeout(interval, changed.notified()).await;
    }
}

async fn look(config: Arc<Config>) -> Health {
    match tokio::task::spawn_blocking(move || check(&config)).await {
        Ok(Ok(_)) => Health::Healthy,
        Ok(Err(error)) => Health::Unhealthy {
            reason: chain(&error),
        },
        Err(error) => Health::Unhealthy {
            reason: format!("the probe failed: {error}"),
        },
    }
}

fn publish(health: &watch::Sender<Health>, now: Health) {
    health.send_if_modified(|before| {
        if *before == now {
            return false;
        }
        match &now {
            Health::Unknown => {}
            Health::Healthy => info!("the device is healthy"),
            // Reasons hold measurements; the same one again is no news.
            Health::Unhealthy { reason } if matches!(before, Health::Unhealthy { .. }) => {
                debug!(reason, "the device is still unhealthy");
            }
            Health::Unhealthy { reason } => warn!(reason, "the device is unhealthy"),
        }
        *before = now;
        true
    });
}
