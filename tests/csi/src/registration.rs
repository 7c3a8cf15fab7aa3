//! Makes the driver known to the kubelet (plugin registration v1), as
//! node-driver-registrar does for drivers in the field.

use std::path::PathBuf;

use coracle_proto::pluginregistration::registration_server::Registration;
use coracle_proto::pluginregistration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use tonic::{Request, Response, Status, async_trait};

use crate::NAME;

/// The type of plugin.
const CSI_PLUGIN: &str = "CSIPlugin";
/// The version of CSI that the kubelet asks for.
const VERSION: &str = "1.0.0";

/// The file name of the registration's socket.
///
/// The kubelet dials it with its path, percent-encoded, as the HTTP/2
/// `:authority`. The HTTP/2 library under this server refuses a `%` in a
/// host's name, but not in the user's name before it: hence the `@`.
pub(crate) fn socket_name() -> String {
    format!("registration@{NAME}.sock")
}

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Registrar {
    /// Where the driver's other services are.
    pub(crate) endpoint: PathBuf,
}

#[async_trait]
impl Registration for Registrar {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: CSI_PLUGIN.to_owned(),
            name: NAME.to_owned(),
            endpoint: self.endpoint.display().to_string(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        outcome: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let outcome = outcome.into_inner();
        if outcome.plugin_registered {
            tracing::info!("the kubelet took the driver");
        } else {
            tracing::error!(error = %outcome.error, "the kubelet refused the driver");
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
