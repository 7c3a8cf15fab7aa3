//! Snapshots: copies of a volume's file.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Backend;
use crate::error::CsiError;
use crate::shelf::{Item, id};

/// What is known of a snapshot beside its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) name: String,
    pub(crate) volume: String,
    /// When it was made, in seconds since 1970.
    pub(crate) created: i64,
}

impl Backend {
    /// Makes a snapshot, or finds the one that was made for the same request.
    /// What is written to the volume while it is copied may be in it or not.
    pub(crate) fn create_snapshot(
        &self,
        name: &str,
        volume: &str,
    ) -> Result<(String, Item<Snapshot>), CsiError> {
        let id = id(name);
        if let Some(there) = self.snapshots.get::<Snapshot>(&id)? {
            if there.facts.volume != volume {
                return Err(CsiError::Exists {
                    name: name.to_owned(),
                    difference: format!("it is of the volume {}", there.facts.volume),
                });
            }
            return Ok((id, there));
        }
        let bytes = self.volume(volume)?.bytes;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let facts = Snapshot {
            name: name.to_owned(),
            volume: volume.to_owned(),
            created: i64::try_from(now).unwrap_or(i64::MAX),
        };
        let data = self.volumes.data(volume);
        self.snapshots.make(&id, &facts, Some(&data), bytes)?;
        tracing::info!(snapshot = %id, %volume, bytes, "made a snapshot");
        Ok((id, Item { facts, bytes }))
    }

    /// Deletes a snapshot; one that is gone is deleted.
    pub(crate) fn delete_snapshot(&self, id: &str) -> Result<(), CsiError> {
        self.snapshots.remove(id)
    }

    /// All of them, sorted by identifier, or those that are meant: empty texts
    /// mean any.
    pub(crate) fn snapshots(
        &self,
        id: &str,
        volume: &str,
    ) -> Result<Vec<(String, Item<Snapshot>)>, CsiError> {
        let mut all = self.snapshots.list::<Snapshot>()?;
        all.retain(|(there, snapshot)| {
            (id.is_empty() || there == id) && (volume.is_empty() || snapshot.facts.volume == volume)
        });
        Ok(all)
    }
}
