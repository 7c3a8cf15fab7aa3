//! Volumes: made (empty, from a snapshot, from another), grown, deleted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Backend;
use crate::TOPOLOGY_KEY;
use crate::access::Sizes;
use crate::error::CsiError;
use crate::loops;
use crate::shelf::{Item, id};

/// What is known of a volume beside its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) source: Option<Source>,
}

/// What a volume began with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    Snapshot(String),
    Volume(String),
}

/// A volume that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) sizes: Sizes,
    pub(crate) source: Option<Source>,
    /// The places where it may be; none when it is all the same.
    pub(crate) places: Vec<BTreeMap<String, String>>,
}

impl Backend {
    /// Makes a volume, or finds the one that was made for the same request.
    pub(crate) fn create_volume(
        &self,
        request: Request,
    ) -> Result<(String, Item<Volume>), CsiError> {
        let id = id(&request.name);
        if let Some(there) = self.volumes.get::<Volume>(&id)? {
            same(&there, &request)?;
            return Ok((id, there));
        }
        if !request.places.is_empty() && !request.places.iter().any(|place| self.is_here(place)) {
            return Err(CsiError::Elsewhere {
                node: self.node.clone(),
            });
        }
        let source = self.source(request.source.as_ref())?;
        let bytes = request
            .sizes
            .choose(source.as_ref().map_or(0, |source| source.1))?;
        self.reserve(bytes)?;
        let facts = Volume {
            name: request.name,
            source: request.source,
        };
        let path = source.map(|source| source.0);
        self.volumes.make(&id, &facts, path.as_deref(), bytes)?;
        tracing::info!(volume = %id, name = %facts.name, bytes, "made a volume");
        Ok((id, Item { facts, bytes }))
    }

    /// The file that a volume begins with, and its size.
    fn source(
        &self,
        source: Option<&Source>,
    ) -> Result<Option<(std::path::PathBuf, u64)>, CsiError> {
        Ok(match source {
            None => None,
            Some(Source::Volume(id)) => Some((self.volumes.data(id), self.volume(id)?.bytes)),
            Some(Source::Snapshot(id)) => {
                let snapshot = self.snapshots.get::<super::Snapshot>(id)?;
                let snapshot = snapshot.ok_or_else(|| CsiError::snapshot(id))?;
                Some((self.snapshots.data(id), snapshot.bytes))
            }
        })
    }

    /// Whether a place is this node.
    pub(crate) fn is_here(&self, place: &BTreeMap<String, String>) -> bool {
        place.get(TOPOLOGY_KEY) == Some(&self.node)
    }

    /// The volume with this identifier.
    pub(crate) fn volume(&self, id: &str) -> Result<Item<Volume>, CsiError> {
        self.volumes.get(id)?.ok_or_else(|| CsiError::volume(id))
    }

    /// All of them, sorted by identifier.
    pub(crate) fn all_volumes(&self) -> Result<Vec<(String, Item<Volume>)>, CsiError> {
        self.volumes.list()
    }

    /// Deletes a volume that nothing uses; one that is gone is deleted.
    pub(crate) fn delete_volume(&self, id: &str) -> Result<(), CsiError> {
        let devices = loops::on(&self.volumes.data(id))?;
        if !devices.is_empty() {
            return Err(CsiError::InUse {
                id: id.to_owned(),
                devices: devices.into_iter().map(|found| found.device).collect(),
            });
        }
        self.volumes.remove(id)?;
        tracing::info!(volume = %id, "deleted a volume");
        Ok(())
    }

    /// Makes a volume as big as is wanted, and returns its size. It is never
    /// made smaller.
    pub(crate) fn expand_volume(&self, id: &str, sizes: Sizes) -> Result<u64, CsiError> {
        let there = self.volume(id)?;
        let wanted = sizes.choose(0)?;
        if !sizes.hold(wanted.max(there.bytes)) {
            return Err(CsiError::OutOfRange {
                wanted: there.bytes,
                limit: wanted,
            });
        }
        if wanted <= there.bytes {
            return Ok(there.bytes);
        }
        self.reserve(wanted - there.bytes)?;
        self.volumes.grow(id, wanted)?;
        tracing::info!(volume = %id, bytes = wanted, "expanded a volume");
        Ok(wanted)
    }

    /// How many bytes are left.
    pub(crate) fn free(&self) -> Result<u64, CsiError> {
        let all = self.all_volumes()?;
        let used: u64 = all.iter().map(|(_, volume)| volume.bytes).sum();
        Ok(self.capacity.saturating_sub(used))
    }

    fn reserve(&self, wanted: u64) -> Result<(), CsiError> {
        let free = self.free()?;
        if wanted > free {
            return Err(CsiError::Exhausted { wanted, free });
        }
        Ok(())
    }
}

/// Whether a volume is what a request with its name asks for.
fn same(there: &Item<Volume>, request: &Request) -> Result<(), CsiError> {
    let difference = if !request.sizes.hold(there.bytes) {
        format!("it has {} bytes", there.bytes)
    } else if there.facts.source != request.source {
        format!("it was made from {:?}", there.facts.source)
    } else {
        return Ok(());
    };
    Err(CsiError::Exists {
        name: request.name.clone(),
        difference,
    })
}
