//! The plugin's tasks, all of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::Config;
use crate::events::{self, Watched};
use crate::grant;
use crate::health::Keeper;
use crate::registrar::Registrar;
use crate::resource::Resource;

/// How long the tasks may take to end.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Why the plugin ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A task ended that must not.
    #[error("a task ended before the plugin was stopped")]
    Ended,
    /// A task panicked.
    #[error("a task failed")]
    Task(#[from] JoinError),
    /// The tasks did not end when they were told to.
    #[error("the tasks did not end within {} s", limit.as_secs())]
    Drain {
        /// How long they had.
        limit: Duration,
    },
}

/// Runs the plugin until it is stopped.
///
/// # Guarantees
/// Registers with every kubelet that comes, and does not end because one is
/// away. When it returns, its sockets are gone and so is a CDI specification;
/// its device node stays for containers that restart. It does not deregister
/// with an empty list: a plugin that is upgraded is back in seconds, and the
/// kubelet keeps the capacity for that long.
///
/// # Cancellation
/// A dropped call leaves sockets behind; the next run replaces them.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let config = Arc::new(config);
    let device = Arc::new(Notify::new());
    let mut watched = vec![
        Watched::new(config.device.clone(), &device),
        Watched::new(config.grant.path(), &device),
    ];
    let mut resources = vec![Resource::Kvm];
    if let Some(reports) = &config.prober {
        watched.push(Watched::new(reports.socket(), &device));
        resources.push(Resource::Probe);
    }
    let keeper = Keeper::new(config.clone(), device);
    let mut tasks = JoinSet::new();
    for resource in resources {
        // Wakers of its own: one event may concern several registrations.
        let (kubelet, own) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        watched.push(Watched::new(config.kubelet_socket(), &kubelet));
        watched.push(Watched::new(config.socket(resource), &own));
        let registrar = Registrar {
            config: config.clone(),
            resource,
            health: keeper.health(resource),
            kubelet,
            own,
        };
        tasks.spawn(registrar.keep(stop.clone()));
    }
    tasks.spawn(events::follow(watched, stop.clone()));
    tasks.spawn(keeper.keep(stop.clone()));

    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => Err(ended.map_or_else(RunError::from, |()| RunError::Ended)),
    };
    stop.cancel();
    let drained = timeout(DRAIN_LIMIT, async {
        while tasks.join_next().await.is_some() {}
    });
    let drained = drained
        .await
        .map_err(|_| RunError::Drain { limit: DRAIN_LIMIT });
    grant::withdraw(&config.grant);
    info!("stopped");
    outcome.and(drained)
}
