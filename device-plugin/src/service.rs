//! The service on the plugin's socket (device plugin v1beta1, service
//! `DevicePlugin`): decode, ask, encode.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use coracle_proto::deviceplugin::device_plugin_server::DevicePlugin;
use coracle_proto::deviceplugin::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse, Device,
    DevicePluginOptions, DeviceSpec, Empty, HEALTHY, ListAndWatchResponse, Mount,
    PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, UNHEALTHY,
};
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status, async_trait};

use crate::allocation::{Granted, GrantedDevice, GrantedMount, allocate};
use crate::config::Config;
use crate::health::Health;
use crate::resource::Resource;

/// The service of one registration.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) config: Arc<Config>,
    pub(crate) resource: Resource,
    pub(crate) health: watch::Receiver<Health>,
    /// How many streams the kubelet follows.
    pub(crate) streams: watch::Sender<usize>,
    /// Ends the streams.
    pub(crate) stop: CancellationToken,
}

#[async_trait]
impl DevicePlugin for Service {
    type ListAndWatchStream = Lists;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        // All slots are the same device: there is nothing to prefer.
        Ok(Response::new(DevicePluginOptions::default()))
    }

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Lists>, Status> {
        Ok(Response::new(Lists {
            resource: self.resource,
            count: self.resource.count(&self.config),
            health: WatchStream::new(self.health.clone()),
            sent: None,
            stopped: Box::pin(self.stop.clone().cancelled_owned()),
            _alive: Alive::new(&self.streams),
        }))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        Err(Status::unimplemented(
            "the options say that it is not available",
        ))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let health = self.health.borrow().clone();
        let container_responses = request
            .into_inner()
            .container_requests
            .iter()
            .map(|request| {
                Ok(allocate(&self.config, self.resource, &health, &request.device_ids)?.into())
            })
            .collect::<Result<_, Status>>()?;
        Ok(Response::new(AllocateResponse {
            container_responses,
        }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

impl From<Granted> for ContainerAllocateResponse {
    fn from(granted: Granted) -> Self {
        let mut response = Self {
            envs: granted.envs.into_iter().collect(),
            ..Self::default()
        };
        match granted.device {
            GrantedDevice::Node {
                container_path,
                host_path,
            } => {
                // Not "m": nobody needs to make nodes of it.
                let (container_path, permissions) = (container_path.into(), "rw".into());
                response.devices.push(DeviceSpec {
                    container_path,
                    host_path,
                    permissions,
                });
            }
            GrantedDevice::Cdi { name } => response.cdi_devices.push(CdiDevice { name }),
        }
        if let Some(mount) = granted.mount {
            let GrantedMount {
                container_path,
                host_path,
            } = mount;
            response.mounts.push(Mount {
                container_path: container_path.into(),
                host_path,
                read_only: true,
            });
        }
        response
    }
}

/// The list at first, and again when the health changes. It is never sent
/// twice the same: the kubelet writes its checkpoint for each.
pub(crate) struct Lists {
    resource: Resource,
    count: usize,
    health: WatchStream<Health>,
    sent: Option<bool>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    _alive: Alive,
}

impl Stream for Lists {
    type Item = Result<ListAndWatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        loop {
            let Some(health) = ready!(Pin::new(&mut self.health).poll_next(cx)) else {
                return Poll::Ready(None);
            };
            let healthy = health == Health::Healthy;
            if self.sent.replace(healthy) != Some(healthy) {
                return Poll::Ready(Some(Ok(list(self.resource, self.count, healthy))));
            }
        }
    }
}

fn list(resource: Resource, count: usize, healthy: bool) -> ListAndWatchResponse {
    let health = if healthy { HEALTHY } else { UNHEALTHY };
    // No topology: /dev/kvm is everywhere, and a node named for it would make
    // the topology manager refuse pods.
    let device = |index| Device {
        id: resource.id(index),
        health: health.into(),
        topology: None,
    };
    ListAndWatchResponse {
        devices: (0..count).map(device).collect(),
    }
}

/// Counts a stream for as long as it lives.
struct Alive(watch::Sender<usize>);

impl Alive {
    fn new(streams: &watch::Sender<usize>) -> Self {
        streams.send_modify(|count| *count += 1);
        Self(streams.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
