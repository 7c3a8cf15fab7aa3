//! The service on the plugin's socket (device plugin v1beta1, service
//! `DevicePlugin`): decode, ask, encode.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use coracle_proto::deviceplugin::device_plugin_server::DevicePlugin;
use coracle_proto::deviceplugin::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse,
    ContainerPreferredAllocationResponse, Device, DevicePluginOptions, DeviceSpec, Empty, HEALTHY,
    ListAndWatchResponse, Mount, NumaNode, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse, TopologyInfo, UNHEALTHY,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status, async_trait};

use crate::allocation::{AllocateError, Granted, allocate};
use crate::config::Config;
use crate::contact::Contact;
use crate::ledger::Ledger;
use crate::listing::{Entry, Health, Listing, Receiver};
use crate::metrics::Metrics;
use crate::preference::prefer;
use crate::resource::{GrantedMount, Resource};

/// The service of one registration.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) config: Arc<Config>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) listing: Receiver,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) metrics: Arc<Metrics>,
    /// What the kubelet does.
    pub(crate) contact: watch::Sender<Contact>,
    /// Ends the streams.
    pub(crate) stop: CancellationToken,
}

/// What the kubelet may ask for. Slots of one device are all the same: there
/// is nothing to prefer.
pub(crate) fn options(resource: &Resource) -> DevicePluginOptions {
    DevicePluginOptions {
        pre_start_required: false,
        get_preferred_allocation_available: !resource.is_uniform(),
    }
}

impl Service {
    /// The list as it is now; an empty one before the first look.
    fn now(&self) -> Arc<Listing> {
        let listing = self.listing.borrow().clone();
        listing.unwrap_or_else(|| Arc::new(Listing::new(self.resource.clone(), [] as [Entry; 0])))
    }
}

#[async_trait]
impl DevicePlugin for Service {
    type ListAndWatchStream = Lists;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        self.contact.send_modify(|contact| contact.calls += 1);
        Ok(Response::new(options(&self.resource)))
    }

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Lists>, Status> {
        Ok(Response::new(Lists {
            listings: WatchStream::new(self.listing.clone()),
            sent: None,
            stopped: Box::pin(self.stop.clone().cancelled_owned()),
            _alive: Alive::new(&self.contact),
        }))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        if self.resource.is_uniform() {
            let why = "the options say that it is not available";
            return Err(Status::unimplemented(why));
        }
        let listing = self.now();
        let requests = request.into_inner().container_requests.into_iter();
        let responses = requests.map(|asked| {
            let size = usize::try_from(asked.allocation_size).unwrap_or(0);
            let (available, must) = (&asked.available_device_ids, &asked.must_include_device_ids);
            let device_ids = prefer(&listing, available, must, size);
            ContainerPreferredAllocationResponse { device_ids }
        });
        let container_responses = responses.collect();
        Ok(Response::new(PreferredAllocationResponse {
            container_responses,
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let requests = request.into_inner().container_requests;
        let containers: Vec<&[String]> = requests
            .iter()
            .map(|request| request.device_ids.as_slice())
            .collect();
        let (listing, now) = (self.now(), Instant::now());
        let mut holdings = self.ledger.holdings();
        let granted = allocate(
            &listing,
            &self.config.grant,
            &mut holdings,
            &containers,
            now,
        );
        drop(holdings);
        let result = granted.as_ref().err().map_or("ok", AllocateError::label);
        self.metrics.allocation(&self.resource.name, result);
        let container_responses = granted?.into_iter().map(Into::into).collect();
        if listing.is_shared() {
            self.ledger.changed.notify_one();
        }
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
        let device = |(container_path, host_path)| DeviceSpec {
            container_path,
            host_path,
            // Not "m": nobody needs to make nodes of it.
            permissions: "rw".into(),
        };
        let mount = |mount: GrantedMount| Mount {
            container_path: mount.container_path.into(),
            host_path: mount.host_path,
            read_only: true,
        };
        Self {
            envs: granted.envs.into_iter().collect(),
            devices: granted.nodes.into_iter().map(device).collect(),
            cdi_devices: granted
                .cdi
                .into_iter()
                .map(|name| CdiDevice { name })
                .collect(),
            mounts: granted.mount.map(mount).into_iter().collect(),
            ..Self::default()
        }
    }
}

/// The list at first, and again when the kubelet would see another. It is
/// never sent twice the same: the kubelet writes its checkpoint for each.
pub(crate) struct Lists {
    listings: WatchStream<Option<Arc<Listing>>>,
    sent: Option<Arc<Listing>>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    _alive: Alive,
}

impl Stream for Lists {
    type Item = Result<ListAndWatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let last = self.sent.as_ref().is_some_and(|sent| sent.last);
        if last || self.stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        loop {
            let Some(listing) = ready!(Pin::new(&mut self.listings).poll_next(cx)) else {
                return Poll::Ready(None);
            };
            let Some(listing) = listing else {
                continue;
            };
            let same = |sent: &Arc<Listing>| sent.looks_like(&listing) && sent.last == listing.last;
            if !self.sent.as_ref().is_some_and(same) {
                let response = list(&listing);
                self.sent = Some(listing);
                return Poll::Ready(Some(Ok(response)));
            }
        }
    }
}

fn list(listing: &Listing) -> ListAndWatchResponse {
    let mut devices = Vec::with_capacity(listing.capacity());
    for entry in &listing.entries {
        devices.extend(entry.ids().map(|id| device(id, entry)));
    }
    ListAndWatchResponse { devices }
}

/// A device without a NUMA node has no topology at all: an empty one would
/// make the topology manager refuse pods.
fn device(id: String, entry: &Entry) -> Device {
    let healthy = entry.health == Health::Healthy;
    let topology = entry.numa.map(|numa| TopologyInfo {
        nodes: vec![NumaNode { id: numa.into() }],
    });
    Device {
        id,
        health: if healthy { HEALTHY } else { UNHEALTHY }.into(),
        topology,
    }
}

/// Counts a stream for as long as it lives.
struct Alive(watch::Sender<Contact>);

impl Alive {
    fn new(contact: &watch::Sender<Contact>) -> Self {
        contact.send_modify(|contact| {
            contact.calls += 1;
            contact.streams += 1;
        });
        Self(contact.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0
            .send_modify(|contact| contact.streams = contact.streams.saturating_sub(1));
    }
}
