//! A plugin that does what the test says.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use coracle_proto::deviceplugin::device_plugin_server::{DevicePlugin, DevicePluginServer};
use coracle_proto::deviceplugin::registration_client::RegistrationClient;
use coracle_proto::deviceplugin::{
    self as wire, AllocateRequest, AllocateResponse, ContainerAllocateResponse,
    ContainerPreferredAllocationResponse, DevicePluginOptions, Empty, HEALTHY, KUBELET_SOCKET,
    ListAndWatchResponse, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse, RegisterRequest, UNHEALTHY,
};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, async_trait};

use crate::RESOURCE;

/// A plugin whose list the test writes; prefers the last devices.
#[derive(Clone)]
struct Thing {
    list: watch::Receiver<Vec<(String, bool)>>,
    options: DevicePluginOptions,
    pre_started: Arc<Mutex<Vec<String>>>,
    /// Ends the streams, as a plugin that was closed does.
    streams: CancellationToken,
}

#[async_trait]
impl DevicePlugin for Thing {
    type ListAndWatchStream = std::pin::Pin<
        Box<dyn tokio_stream::Stream<Item = Result<ListAndWatchResponse, Status>> + Send>,
    >;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(self.options))
    }

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let ended = self.streams.clone();
        let lists = WatchStream::new(self.list.clone()).map(|list| {
            let devices = list.into_iter().map(|(id, healthy)| wire::Device {
                id,
                health: if healthy { HEALTHY } else { UNHEALTHY }.into(),
                topology: Some(wire::TopologyInfo {
                    nodes: vec![wire::NumaNode { id: 1 }],
                }),
            });
            Ok(ListAndWatchResponse {
                devices: devices.collect(),
            })
        });
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let mut lists = std::pin::pin!(lists);
            while let Some(Some(list)) = ended.run_until_cancelled(lists.next()).await {
                if sender.send(list).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(
            tokio_stream::wrappers::ReceiverStream::new(receiver),
        )))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let answer = |request: wire::ContainerPreferredAllocationRequest| {
            let count = usize::try_from(request.allocation_size).expect("positive");
            let ids = request.available_device_ids.into_iter().rev().take(count);
            ContainerPreferredAllocationResponse {
                device_ids: ids.collect(),
            }
        };
        Ok(Response::new(PreferredAllocationResponse {
            container_responses: request
                .into_inner()
                .container_requests
                .into_iter()
                .map(answer)
                .collect(),
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let answer = |request: wire::ContainerAllocateRequest| {
            if request.device_ids.iter().any(|id| id == "bad") {
                return Err(Status::internal("bad is bad"));
            }
            Ok(ContainerAllocateResponse {
                envs: [("THING".into(), request.device_ids.join(","))].into(),
                ..Default::default()
            })
        };
        let requests = request.into_inner().container_requests;
        let container_responses = requests.into_iter().map(answer).collect::<Result<_, _>>()?;
        Ok(Response::new(AllocateResponse {
            container_responses,
        }))
    }

    async fn pre_start_container(
        &self,
        request: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        let ids = request.into_inner().device_ids;
        self.pre_started.lock().expect("no panic").extend(ids);
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

/// The test's end of a running plugin.
pub(crate) struct Running {
    dir: PathBuf,
    endpoint: &'static str,
    list: watch::Sender<Vec<(String, bool)>>,
    pub(crate) pre_started: Arc<Mutex<Vec<String>>>,
    pub(crate) streams: CancellationToken,
    _server: DropGuard,
}

impl Running {
    pub(crate) fn start(dir: &Path, endpoint: &'static str, options: DevicePluginOptions) -> Self {
        let (list, receiver) = watch::channel(vec![]);
        let pre_started = Arc::new(Mutex::new(vec![]));
        let (streams, stop) = (CancellationToken::new(), CancellationToken::new());
        let thing = Thing {
            list: receiver,
            options,
            pre_started: pre_started.clone(),
            streams: streams.clone(),
        };
        let listener = UnixListener::bind(dir.join(endpoint)).expect("binds");
        let serving = Server::builder()
            .add_service(DevicePluginServer::new(thing))
            .serve_with_incoming(UnixListenerStream::new(listener));
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
        let server = stop.drop_guard();
        Self {
            dir: dir.to_owned(),
            endpoint,
            list,
            pre_started,
            streams,
            _server: server,
        }
    }

    pub(crate) fn lists(&self, devices: &[(&str, bool)]) {
        self.list
            .send_replace(devices.iter().map(|(id, ok)| ((*id).into(), *ok)).collect());
    }

    pub(crate) async fn register(&self) -> Result<(), Status> {
        register(&self.dir, "v1beta1", self.endpoint, RESOURCE).await
    }
}

pub(crate) async fn register(
    dir: &Path,
    version: &str,
    endpoint: &str,
    name: &str,
) -> Result<(), Status> {
    let socket = dir.join(KUBELET_SOCKET);
    let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))
        .expect("a path")
        .connect()
        .await
        .expect("the kubelet listens");
    let request = RegisterRequest {
        version: version.into(),
        endpoint: endpoint.into(),
        resource_name: name.into(),
        options: None,
    };
    RegistrationClient::new(channel)
        .register(request)
        .await
        .map(|_| ())
}
