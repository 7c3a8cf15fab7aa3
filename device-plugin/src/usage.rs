//! What is in use, as the kubelet has it (pod-resources v1, `List`). The
//! device plugin protocol has no word for a device that is given back; this is
//! the only way to learn of it, and of what was given out before a restart.

use std::path::Path;
use std::time::Duration;

use coracle_proto::podresources::ListPodResourcesRequest;
use coracle_proto::podresources::pod_resources_lister_client::PodResourcesListerClient;
use tokio::time::timeout;

use crate::holdings::InUse;
use crate::session::{SessionError, dial};

/// The kubelet answers from memory; it limits how often it is asked.
const LIMIT: Duration = Duration::from_secs(5);

/// Why it is not known what is in use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("{source}")]
    Dial { source: SessionError },
    #[error("the kubelet does not list what is in use: {}", source.message())]
    List { source: Box<tonic::Status> },
    #[error("the kubelet did not answer within {} s", LIMIT.as_secs())]
    Unanswered,
}

/// The devices in use, by resource and name; those of all plugins.
pub(crate) async fn in_use(socket: &Path) -> Result<InUse, UsageError> {
    let asked = async {
        let channel = dial(socket)
            .await
            .map_err(|source| UsageError::Dial { source })?;
        let list = PodResourcesListerClient::new(channel)
            .list(ListPodResourcesRequest {})
            .await;
        list.map_err(|status| UsageError::List {
            source: Box::new(status),
        })
    };
    let list = timeout(LIMIT, asked)
        .await
        .unwrap_or(Err(UsageError::Unanswered))?;
    let pods = list.into_inner().pod_resources.into_iter();
    let devices = pods
        .flat_map(|pod| pod.containers)
        .flat_map(|container| container.devices);
    let pairs = devices.flat_map(|device| {
        let resource = device.resource_name;
        let ids = device.device_ids.into_iter();
        ids.map(move |id| (resource.clone(), id))
    });
    Ok(pairs.collect())
}
