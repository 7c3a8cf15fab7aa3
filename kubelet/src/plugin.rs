//! A plugin as the kubelet sees it: the connection to its socket, and the
//! calls, each with its limit (device plugin v1beta1, service
//! `DevicePlugin`).

use std::path::Path;
use std::time::Duration;

use coracle_proto::deviceplugin::device_plugin_client::DevicePluginClient;
use coracle_proto::deviceplugin::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, DevicePluginOptions, Empty, ListAndWatchResponse,
    PreStartContainerRequest, PreferredAllocationRequest,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use crate::error::KubeletError;

/// How long dialling and `GetDevicePluginOptions` may take; the kubelet's.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long `PreStartContainer` may take; the kubelet's.
const PRE_START_LIMIT: Duration = Duration::from_secs(30);
/// How long `Allocate` and `GetPreferredAllocation` may take. The kubelet has
/// no limit, and a plugin that hangs keeps every pod from starting; here the
/// caller gets an error.
const ALLOCATE_LIMIT: Duration = Duration::from_secs(30);

/// A connection to a registered plugin.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    resource: String,
    client: DevicePluginClient<Channel>,
    options: DevicePluginOptions,
    /// Ends the plugin's stream.
    pub(crate) stop: CancellationToken,
}

impl Plugin {
    /// Dials the plugin and asks for its options.
    pub(crate) async fn connect(
        resource: &str,
        socket: &Path,
        stop: CancellationToken,
    ) -> Result<Self, KubeletError> {
        let dial = |source| KubeletError::Dial {
            resource: resource.to_owned(),
            path: socket.to_owned(),
            source,
        };
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .map_err(dial)?
            .connect_timeout(CONNECT_LIMIT)
            .connect()
            .await
            .map_err(dial)?;
        // One list of many thousand devices is still a message to take.
        let mut client = DevicePluginClient::new(channel).max_decoding_message_size(64 << 20);
        let options = limited(
            resource,
            "GetDevicePluginOptions",
            CONNECT_LIMIT,
            client.get_device_plugin_options(Empty {}),
        )
        .await?;
        Ok(Self {
            resource: resource.to_owned(),
            client,
            options,
            stop,
        })
    }

    /// The plugin's lists, from now on.
    pub(crate) async fn watch(&mut self) -> Result<Streaming<ListAndWatchResponse>, Status> {
        Ok(self.client.list_and_watch(Empty {}).await?.into_inner())
    }

    /// Which of the free devices the plugin would give out, if it cares. Like
    /// the kubelet, asks only where there is a choice.
    pub(crate) async fn preferred(
        &mut self,
        free: &[String],
        count: usize,
    ) -> Result<Vec<String>, KubeletError> {
        if !self.options.get_preferred_allocation_available || free.len() <= count {
            return Ok(vec![]);
        }
        let request = PreferredAllocationRequest {
            container_requests: vec![ContainerPreferredAllocationRequest {
                available_device_ids: free.to_vec(),
                must_include_device_ids: vec![],
                allocation_size: i32::try_from(count).unwrap_or(i32::MAX),
            }],
        };
        let call = self.client.get_preferred_allocation(request);
        let answer = limited(
            &self.resource,
            "GetPreferredAllocation",
            ALLOCATE_LIMIT,
            call,
        )
        .await?;
        Ok(answer
            .container_responses
            .into_iter()
            .next()
            .unwrap_or_default()
            .device_ids)
    }

    /// What one container needs to use the devices.
    pub(crate) async fn allocate(
        &mut self,
        ids: &[String],
    ) -> Result<ContainerAllocateResponse, KubeletError> {
        let request = AllocateRequest {
            container_requests: vec![ContainerAllocateRequest {
                device_ids: ids.to_vec(),
            }],
        };
        let call = self.client.allocate(request);
        let answer = limited(&self.resource, "Allocate", ALLOCATE_LIMIT, call).await?;
        answer
            .container_responses
            .into_iter()
            .next()
            .ok_or_else(|| KubeletError::EmptyAnswer {
                resource: self.resource.clone(),
            })
    }

    /// Tells the plugin that a container with these devices is about to
    /// start, when it wants to know.
    pub(crate) async fn pre_start(&mut self, ids: &[String]) -> Result<(), KubeletError> {
        if !self.options.pre_start_required {
            return Ok(());
        }
        let call = self.client.pre_start_container(PreStartContainerRequest {
            device_ids: ids.to_vec(),
        });
        limited(&self.resource, "PreStartContainer", PRE_START_LIMIT, call)
            .await
            .map(|_| ())
    }
}

/// A call's answer, or which call of whom failed and how.
async fn limited<T>(
    resource: &str,
    call: &'static str,
    limit: Duration,
    future: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, KubeletError> {
    let resource = || resource.to_owned();
    match timeout(limit, future).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(KubeletError::Call {
            resource: resource(),
            call,
            source: Box::new(status),
        }),
        Err(_) => Err(KubeletError::Unanswered {
            resource: resource(),
            call,
            limit,
        }),
    }
}
