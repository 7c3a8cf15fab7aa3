//! CSI 1.x, Controller service: what comes over the wire, given to the
//! backend, and its answers.

use std::collections::HashMap;
use std::sync::Arc;

use prost_types::Timestamp;
use tonic::{Request as Call, Response, Status, async_trait};

use crate::TOPOLOGY_KEY;
use crate::access::{Access, Sizes};
use crate::backend::{Backend, Request, Snapshot, Source, Volume};
use crate::error::{CsiError, required};
use crate::paging::page;
use crate::proto::controller_server::Controller;
use crate::proto::controller_service_capability::rpc::Type as Can;
use crate::proto::controller_service_capability::{Rpc, Type};
use crate::proto::volume_content_source::{SnapshotSource, Type as From, VolumeSource};
use crate::proto::{self, Topology};
use crate::shelf::Item;

type Answer<T> = Result<Response<T>, Status>;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Volumes(pub(crate) Arc<Backend>);

#[async_trait]
impl Controller for Volumes {
    async fn create_volume(
        &self,
        call: Call<proto::CreateVolumeRequest>,
    ) -> Answer<proto::CreateVolumeResponse> {
        let request = request(call.into_inner())?;
        let made = self.0.call(move |backend| {
            let made = backend.create_volume(request)?;
            Ok(volume(backend, made))
        });
        let volume = Some(made.await?);
        Ok(Response::new(proto::CreateVolumeResponse { volume }))
    }

    async fn delete_volume(
        &self,
        call: Call<proto::DeleteVolumeRequest>,
    ) -> Answer<proto::DeleteVolumeResponse> {
        let id = call.into_inner().volume_id;
        required("volume_id", &id)?;
        self.0
            .call(move |backend| backend.delete_volume(&id))
            .await?;
        Ok(Response::new(proto::DeleteVolumeResponse {}))
    }

    async fn validate_volume_capabilities(
        &self,
        call: Call<proto::ValidateVolumeCapabilitiesRequest>,
    ) -> Answer<proto::ValidateVolumeCapabilitiesResponse> {
        let asked = call.into_inner();
        let id = required("volume_id", &asked.volume_id)?.to_owned();
        let refusal = match Access::check(&asked.volume_capabilities) {
            Err(missing @ CsiError::Missing { .. }) => return Err(missing.into()),
            other => other.err(),
        };
        self.0.call(move |backend| backend.volume(&id)).await?;
        let confirmed = proto::validate_volume_capabilities_response::Confirmed {
            volume_context: asked.volume_context,
            volume_capabilities: asked.volume_capabilities,
            parameters: asked.parameters,
        };
        Ok(Response::new(proto::ValidateVolumeCapabilitiesResponse {
            confirmed: refusal.is_none().then_some(confirmed),
            message: refusal.map_or_else(String::new, |refusal| refusal.to_string()),
        }))
    }

    async fn list_volumes(
        &self,
        call: Call<proto::ListVolumesRequest>,
    ) -> Answer<proto::ListVolumesResponse> {
        let asked = call.into_inner();
        let (entries, next_token) = self
            .0
            .call(move |backend| {
                let all = backend.all_volumes()?;
                let (some, next) = page(all, &asked.starting_token, asked.max_entries)?;
                let entry = |item| proto::list_volumes_response::Entry {
                    volume: Some(volume(backend, item)),
                };
                Ok((some.into_iter().map(entry).collect(), next))
            })
            .await?;
        Ok(Response::new(proto::ListVolumesResponse {
            entries,
            next_token,
        }))
    }

    async fn get_capacity(
        &self,
        call: Call<proto::GetCapacityRequest>,
    ) -> Answer<proto::GetCapacityResponse> {
        let place = call.into_inner().accessible_topology;
        let place = place.map(|place| place.segments.into_iter().collect());
        let free = self.0.call(move |backend| match place {
            Some(place) if !backend.is_here(&place) => Ok(0),
            _ => backend.free(),
        });
        let available_capacity = signed(free.await?);
        Ok(Response::new(proto::GetCapacityResponse {
            available_capacity,
        }))
    }

    async fn controller_get_capabilities(
        &self,
        _: Call<proto::ControllerGetCapabilitiesRequest>,
    ) -> Answer<proto::ControllerGetCapabilitiesResponse> {
        let all = [
            Can::CreateDeleteVolume,
            Can::ListVolumes,
            Can::GetCapacity,
            Can::CreateDeleteSnapshot,
            Can::ListSnapshots,
            Can::CloneVolume,
            Can::ExpandVolume,
        ];
        let all = all.map(|can| proto::ControllerServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: can.into() })),
        });
        Ok(Response::new(proto::ControllerGetCapabilitiesResponse {
            capabilities: all.into(),
        }))
    }

    async fn create_snapshot(
        &self,
        call: Call<proto::CreateSnapshotRequest>,
    ) -> Answer<proto::CreateSnapshotResponse> {
        let asked = call.into_inner();
        required("name", &asked.name)?;
        required("source_volume_id", &asked.source_volume_id)?;
        let made = self
            .0
            .call(move |backend| backend.create_snapshot(&asked.name, &asked.source_volume_id));
        let snapshot = Some(snapshot(made.await?));
        Ok(Response::new(proto::CreateSnapshotResponse { snapshot }))
    }

    async fn delete_snapshot(
        &self,
        call: Call<proto::DeleteSnapshotRequest>,
    ) -> Answer<proto::DeleteSnapshotResponse> {
        let id = call.into_inner().snapshot_id;
        required("snapshot_id", &id)?;
        self.0
            .call(move |backend| backend.delete_snapshot(&id))
            .await?;
        Ok(Response::new(proto::DeleteSnapshotResponse {}))
    }

    async fn list_snapshots(
        &self,
        call: Call<proto::ListSnapshotsRequest>,
    ) -> Answer<proto::ListSnapshotsResponse> {
        let asked = call.into_inner();
        let (some, next_token) = self
            .0
            .call(move |backend| {
                let all = backend.snapshots(&asked.snapshot_id, &asked.source_volume_id)?;
                page(all, &asked.starting_token, asked.max_entries)
            })
            .await?;
        let entry = |item| proto::list_snapshots_response::Entry {
            snapshot: Some(snapshot(item)),
        };
        Ok(Response::new(proto::ListSnapshotsResponse {
            entries: some.into_iter().map(entry).collect(),
            next_token,
        }))
    }

    async fn controller_expand_volume(
        &self,
        call: Call<proto::ControllerExpandVolumeRequest>,
    ) -> Answer<proto::ControllerExpandVolumeResponse> {
        let asked = call.into_inner();
        required("volume_id", &asked.volume_id)?;
        let range = asked.capacity_range;
        let range = range.ok_or(CsiError::Missing {
            field: "capacity_range",
        })?;
        let sizes = Sizes::read(Some(&range))?;
        let grown = self
            .0
            .call(move |backend| backend.expand_volume(&asked.volume_id, sizes));
        Ok(Response::new(proto::ControllerExpandVolumeResponse {
            capacity_bytes: signed(grown.await?),
            node_expansion_required: true,
        }))
    }
}

/// What is asked for, when it is complete.
fn request(asked: proto::CreateVolumeRequest) -> Result<Request, CsiError> {
    required("name", &asked.name)?;
    Access::check(&asked.volume_capabilities)?;
    let source = asked.volume_content_source.and_then(|source| source.r#type);
    let requirement = asked.accessibility_requirements.unwrap_or_default();
    let places = requirement
        .requisite
        .into_iter()
        .chain(requirement.preferred);
    Ok(Request {
        name: asked.name,
        sizes: Sizes::read(asked.capacity_range.as_ref())?,
        source: source.map(|source| match source {
            From::Snapshot(snapshot) => Source::Snapshot(snapshot.snapshot_id),
            From::Volume(volume) => Source::Volume(volume.volume_id),
        }),
        places: places
            .map(|place| place.segments.into_iter().collect())
            .collect(),
    })
}

fn volume(backend: &Backend, (id, item): (String, Item<Volume>)) -> proto::Volume {
    let source = item.facts.source.map(|source| match source {
        Source::Snapshot(snapshot_id) => From::Snapshot(SnapshotSource { snapshot_id }),
        Source::Volume(volume_id) => From::Volume(VolumeSource { volume_id }),
    });
    proto::Volume {
        capacity_bytes: signed(item.bytes),
        volume_id: id,
        volume_context: HashMap::new(),
        content_source: source.map(|source| proto::VolumeContentSource {
            r#type: Some(source),
        }),
        accessible_topology: vec![here(backend)],
    }
}

/// This node, as a place.
pub(crate) fn here(backend: &Backend) -> Topology {
    Topology {
        segments: HashMap::from([(TOPOLOGY_KEY.to_owned(), backend.node.clone())]),
    }
}

fn snapshot((id, item): (String, Item<Snapshot>)) -> proto::Snapshot {
    proto::Snapshot {
        size_bytes: signed(item.bytes),
        snapshot_id: id,
        source_volume_id: item.facts.volume,
        creation_time: Some(Timestamp {
            seconds: item.facts.created,
            nanos: 0,
        }),
        ready_to_use: true,
    }
}

/// A size as the wire has it.
pub(crate) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
