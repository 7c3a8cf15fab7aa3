//! `kubectl coracle logs`: the log of the VM's container, found by the VM's
//! name. Followed, it ends with the container, as kubectl's does.

use coracle_api::names::CONTAINER;
use futures::AsyncReadExt as _;
use kube::api::LogParams;

use super::args::LogsArgs;
use super::connect::Cluster;
use super::error::{Doing, PluginError};
use crate::console::show;

/// Prints.
pub(super) async fn logs(cluster: &Cluster, args: &LogsArgs) -> Result<(), PluginError> {
    let name = &args.vm;
    let vm = cluster.vm(name).await?;
    let Some(pod) = vm.status.and_then(|status| status.pod_name) else {
        return Err(PluginError::said(format!(
            "{name} has no pod, and a log goes with its pod: kubectl coracle describe {name} says \
             more"
        )));
    };
    let parameters = LogParams {
        container: Some(CONTAINER.to_owned()),
        follow: args.follow,
        previous: args.previous,
        tail_lines: args.tail,
        ..LogParams::default()
    };
    let doing = Doing::new("get", "pods/log")
        .within(&cluster.namespace)
        .on(&pod);
    let log = cluster.pods().log_stream(&pod, &parameters).await;
    let mut log = std::pin::pin!(log.map_err(|error| doing.failed(error))?);
    let mut buffer = vec![0; 16 << 10];
    loop {
        match log.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(length) => show(&buffer[..length]),
            Err(error) => {
                return Err(PluginError::said(format!(
                    "the log of pod {pod} broke off: {error}"
                )));
            }
        }
    }
}
