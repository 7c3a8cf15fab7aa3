//! The driver's rules, without a word of the wire: what becomes of volumes,
//! snapshots and devices. One call at a time.

mod devices;
mod snapshots;
mod volumes;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;

pub(crate) use self::devices::Usage;
pub(crate) use self::snapshots::Snapshot;
pub(crate) use self::volumes::{Request, Source, Volume};
use crate::error::CsiError;
use crate::shelf::Shelf;

/// What the driver has.
#[derive(Debug)]
pub(crate) struct Backend {
    volumes: Shelf,
    snapshots: Shelf,
    /// The node that it is on.
    pub(crate) node: String,
    /// How many bytes may be in volumes.
    capacity: u64,
    one_at_a_time: Mutex<()>,
}

impl Backend {
    pub(crate) fn open(data: &Path, node: String, capacity: u64) -> Result<Self, CsiError> {
        Ok(Self {
            volumes: Shelf::open(data.join("volumes"))?,
            snapshots: Shelf::open(data.join("snapshots"))?,
            node,
            capacity,
            one_at_a_time: Mutex::new(()),
        })
    }

    /// Does something that takes its time, away from the threads that serve,
    /// and not beside another.
    pub(crate) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, CsiError> + Send + 'static,
    ) -> Result<T, Status> {
        let backend = Arc::clone(self);
        let work = move || {
            let guard = backend.one_at_a_time.lock();
            let _one = guard.unwrap_or_else(PoisonError::into_inner);
            work(&backend)
        };
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.map_err(|panic| Status::internal(panic.to_string()))?;
        done.map_err(|error| {
            tracing::info!(%error, "refused");
            error.into()
        })
    }
}
