//! The kubelet's pod-resources service (v1, `List`): which devices are in
//! use. Each resource's devices are those of one pod.

use std::path::Path;

use coracle_proto::podresources::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use coracle_proto::podresources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest,
    ListPodResourcesResponse, PodResources,
};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, async_trait};
use tracing::error;

use crate::accounts::Accounts;
use crate::error::KubeletError;
use crate::plugin::Plugin;
use crate::registration::Shared;

/// What it answers from.
struct Lister(watch::Receiver<Accounts<Plugin>>);

#[async_trait]
impl PodResourcesLister for Lister {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let pod = |(resource, ids): (&str, Vec<String>)| PodResources {
            name: resource.replace('/', "-"),
            containers: vec![ContainerResources {
                devices: vec![ContainerDevices {
                    resource_name: resource.to_owned(),
                    device_ids: ids,
                    ..ContainerDevices::default()
                }],
                ..ContainerResources::default()
            }],
            ..PodResources::default()
        };
        let pod_resources = self.0.borrow().held().map(pod).collect();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        Err(Status::unimplemented("only List is"))
    }

    async fn get(
        &self,
        _: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        Err(Status::unimplemented("only List is"))
    }
}

/// Serves the socket until the kubelet ends.
pub(crate) fn serve(socket: &Path, shared: &Shared) -> Result<(), KubeletError> {
    let failed = |source| KubeletError::Listen {
        path: socket.to_owned(),
        source,
    };
    // Left by a kubelet before.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(failed)?;
    let server = Server::builder()
        .add_service(PodResourcesListerServer::new(Lister(
            shared.accounts.subscribe(),
        )))
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            shared.stop.clone().cancelled_owned(),
        );
    shared.tasks.spawn(async move {
        if let Err(error) = server.await {
            error!(%error, "the pod-resources server failed");
        }
    });
    Ok(())
}
