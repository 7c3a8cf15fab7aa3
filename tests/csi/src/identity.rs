//! CSI 1.x, Identity service.

use tonic::{Request, Response, Status, async_trait};

use crate::NAME;
use crate::proto::identity_server::Identity;
use crate::proto::plugin_capability::service::Type as Service;
use crate::proto::plugin_capability::volume_expansion::Type as Expansion;
use crate::proto::plugin_capability::{self, Type};
use crate::proto::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest,
    GetPluginInfoResponse, PluginCapability, ProbeRequest, ProbeResponse,
};

/// The service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who;

#[async_trait]
impl Identity for Who {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: NAME.to_owned(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let services = [
            Service::ControllerService,
            Service::VolumeAccessibilityConstraints,
        ];
        let services = services.map(|service| {
            Type::Service(plugin_capability::Service {
                r#type: service.into(),
            })
        });
        let expansion = Type::VolumeExpansion(plugin_capability::VolumeExpansion {
            r#type: Expansion::Online.into(),
        });
        let all = services.into_iter().chain([expansion]);
        Ok(Response::new(GetPluginCapabilitiesResponse {
            capabilities: all
                .map(|kind| PluginCapability { r#type: Some(kind) })
                .collect(),
        }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: Some(true) }))
    }
}
