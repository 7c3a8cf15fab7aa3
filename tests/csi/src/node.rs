//! CSI 1.x, Node service: what comes over the wire, given to the backend, and
//! its answers.

use std::path::PathBuf;
use std::sync::Arc;

use tonic::{Request as Call, Response, Status, async_trait};

use crate::access::Access;
use crate::backend::{Backend, Usage};
use crate::controller::{here, signed};
use crate::error::{CsiError, required};
use crate::mounts;
use crate::proto::node_server::Node;
use crate::proto::node_service_capability::rpc::Type as Can;
use crate::proto::node_service_capability::{Rpc, Type};
use crate::proto::volume_usage::Unit;
use crate::proto::{self, VolumeUsage};

/// Each takes a loop device, and the kubelet another for a raw block volume.
const MAX_VOLUMES: i64 = 100;

type Answer<T> = Result<Response<T>, Status>;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Devices(pub(crate) Arc<Backend>);

#[async_trait]
impl Node for Devices {
    async fn node_stage_volume(
        &self,
        call: Call<proto::NodeStageVolumeRequest>,
    ) -> Answer<proto::NodeStageVolumeResponse> {
        let asked = call.into_inner();
        let id = volume_id(&asked.volume_id)?;
        let staging = path("staging_target_path", &asked.staging_target_path)?;
        let access = Access::read(asked.volume_capability.as_ref())?;
        self.0
            .call(move |backend| backend.stage(&id, &staging, &access))
            .await?;
        Ok(Response::new(proto::NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        call: Call<proto::NodeUnstageVolumeRequest>,
    ) -> Answer<proto::NodeUnstageVolumeResponse> {
        let asked = call.into_inner();
        let id = volume_id(&asked.volume_id)?;
        let staging = path("staging_target_path", &asked.staging_target_path)?;
        self.0
            .call(move |backend| backend.unstage(&id, &staging))
            .await?;
        Ok(Response::new(proto::NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        call: Call<proto::NodePublishVolumeRequest>,
    ) -> Answer<proto::NodePublishVolumeResponse> {
        let asked = call.into_inner();
        let id = volume_id(&asked.volume_id)?;
        let target = path("target_path", &asked.target_path)?;
        let access = Access::read(asked.volume_capability.as_ref())?;
        if asked.staging_target_path.is_empty() {
            return Err(CsiError::NotStaged { id }.into());
        }
        let staging = PathBuf::from(asked.staging_target_path);
        let read_only = asked.readonly;
        self.0
            .call(move |backend| backend.publish(&id, &staging, &target, &access, read_only))
            .await?;
        Ok(Response::new(proto::NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        call: Call<proto::NodeUnpublishVolumeRequest>,
    ) -> Answer<proto::NodeUnpublishVolumeResponse> {
        let asked = call.into_inner();
        let id = volume_id(&asked.volume_id)?;
        let target = path("target_path", &asked.target_path)?;
        self.0
            .call(move |_| {
                mounts::remove(&target)?;
                tracing::info!(volume = %id, target = %target.display(), "unpublished");
                Ok(())
            })
            .await?;
        Ok(Response::new(proto::NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        call: Call<proto::NodeGetVolumeStatsRequest>,
    ) -> Answer<proto::NodeGetVolumeStatsResponse> {
        let asked = call.into_inner();
        let id = volume_id(&asked.volume_id)?;
        let path = path("volume_path", &asked.volume_path)?;
        let usage = match self
            .0
            .call(move |backend| backend.usage(&id, &path))
            .await?
        {
            Usage::Block { total } => VolumeUsage {
                total: signed(total),
                unit: Unit::Bytes.into(),
                ..VolumeUsage::default()
            },
            Usage::Mount { total, free } => VolumeUsage {
                total: signed(total),
                available: signed(free),
                used: signed(total.saturating_sub(free)),
                unit: Unit::Bytes.into(),
            },
        };
        Ok(Response::new(proto::NodeGetVolumeStatsResponse {
            usage: vec![usage],
        }))
    }

    async fn node_expand_volume(
        &self,
        call: Call<proto::NodeExpandVolumeRequest>,
    ) -> Answer<proto::NodeExpandVolumeResponse> {
        let asked = call.into_inner();
        let id = volume_id(&asked.volume_id)?;
        let path = path("volume_path", &asked.volume_path)?;
        let grown = self
            .0
            .call(move |backend| backend.expand_device(&id, &path));
        Ok(Response::new(proto::NodeExpandVolumeResponse {
            capacity_bytes: signed(grown.await?),
        }))
    }

    async fn node_get_capabilities(
        &self,
        _: Call<proto::NodeGetCapabilitiesRequest>,
    ) -> Answer<proto::NodeGetCapabilitiesResponse> {
        let all = [
            Can::StageUnstageVolume,
            Can::GetVolumeStats,
            Can::ExpandVolume,
        ];
        let all = all.map(|can| proto::NodeServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: can.into() })),
        });
        Ok(Response::new(proto::NodeGetCapabilitiesResponse {
            capabilities: all.into(),
        }))
    }

    async fn node_get_info(
        &self,
        _: Call<proto::NodeGetInfoRequest>,
    ) -> Answer<proto::NodeGetInfoResponse> {
        Ok(Response::new(proto::NodeGetInfoResponse {
            node_id: self.0.node.clone(),
            max_volumes_per_node: MAX_VOLUMES,
            accessible_topology: Some(here(&self.0)),
        }))
    }
}

fn volume_id(text: &str) -> Result<String, CsiError> {
    required("volume_id", text).map(str::to_owned)
}

fn path(field: &'static str, text: &str) -> Result<PathBuf, CsiError> {
    required(field, text).map(PathBuf::from)
}
