//! The service on `kubelet.sock` (device plugin v1beta1, service
//! `Registration`).
//!
//! Like the kubelet, it dials back and asks for the plugin's options before
//! it answers `Register`; then a task per plugin follows `ListAndWatch`. It
//! never asks for the stream again: when it ends, the plugin is gone until it
//! registers again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use coracle_proto::deviceplugin::registration_server::Registration;
use coracle_proto::deviceplugin::{Empty, RegisterRequest, VERSION};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, async_trait};
use tracing::{info, warn};

use crate::accounts::Accounts;
use crate::authority;
use crate::error::KubeletError;
use crate::options::Faults;
use crate::plugin::Plugin;

/// What the kubelet and its registration service share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// The directory of the sockets.
    pub(crate) dir: PathBuf,
    /// The books; whoever waits is woken by a change.
    pub(crate) accounts: watch::Sender<Accounts<Plugin>>,
    /// The plugins' streams.
    pub(crate) tasks: TaskTracker,
    /// Ends everything.
    pub(crate) stop: CancellationToken,
    /// What goes wrong.
    pub(crate) faults: Faults,
    /// How many registrations there were, refused ones included.
    pub(crate) attempts: Arc<AtomicU32>,
}

#[async_trait]
impl Registration for Shared {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        self.admit(request.into_inner()).await?;
        Ok(Response::new(Empty {}))
    }
}

impl Shared {
    async fn admit(&self, request: RegisterRequest) -> Result<(), KubeletError> {
        let RegisterRequest {
            version,
            endpoint,
            resource_name: resource,
            ..
        } = request;
        let earlier = self.attempts.fetch_add(1, Ordering::Relaxed);
        if earlier < self.faults.refuse {
            return Err(KubeletError::Refused { resource });
        }
        if !self.faults.answer_after.is_zero() {
            tokio::time::sleep(self.faults.answer_after).await;
        }
        if version != VERSION {
            return Err(KubeletError::Version { version });
        }
        if !is_extended_resource(&resource) {
            return Err(KubeletError::ResourceName { resource });
        }
        if endpoint.is_empty() || endpoint.contains('/') || endpoint.starts_with('.') {
            return Err(KubeletError::EndpointName { endpoint });
        }
        let socket = self.dir.join(&endpoint);
        if self.faults.path_as_authority {
            self.call_with_path(resource, socket);
            return Ok(());
        }
        let plugin = Plugin::connect(&resource, &socket, self.stop.child_token()).await?;
        if earlier < self.faults.options_fail {
            return Err(KubeletError::Options { resource });
        }
        let mut connected = (0, None);
        self.accounts.send_modify(|accounts| {
            connected = accounts.connect(&resource, plugin.clone());
        });
        let (generation, replaced) = connected;
        // The kubelet of the fault leaves the old stream to its own end.
        if let Some(old) = replaced.filter(|_| !self.faults.stale_stream_disconnects) {
            old.stop.cancel();
        }
        info!(%resource, %endpoint, "device plugin registered");
        self.tasks
            .spawn(self.clone().follow(resource, generation, plugin));
        Ok(())
    }

    /// Asks for the list as kubelets did before 1.26.
    fn call_with_path(&self, resource: String, socket: PathBuf) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let path = socket.display().to_string();
            let called = authority::call(&socket, &path);
            match stop.run_until_cancelled(called).await {
                Some(Ok(answer)) => warn!(%resource, ?answer, "called with a path as authority"),
                Some(Err(error)) => warn!(%resource, %error, "not called"),
                None => {}
            }
        });
    }

    /// Takes in a plugin's lists until its stream ends.
    async fn follow(self, resource: String, generation: u64, mut plugin: Plugin) {
        let stop = plugin.stop.clone();
        let end = stop
            .run_until_cancelled(self.lists(&resource, generation, &mut plugin))
            .await;
        if let Some(Err(status)) = end {
            warn!(%resource, error = status.message(), "the device plugin's list broke off");
        }
        let whose = (!self.faults.stale_stream_disconnects).then_some(generation);
        let gone = self
            .accounts
            .send_if_modified(|accounts| accounts.disconnect(&resource, whose));
        if gone {
            info!(%resource, "device plugin disconnected");
        }
    }

    async fn lists(
        &self,
        resource: &str,
        generation: u64,
        plugin: &mut Plugin,
    ) -> Result<(), Status> {
        let mut stream = plugin.watch().await?;
        while let Some(list) = stream.message().await? {
            self.accounts
                .send_modify(|accounts| accounts.update(resource, generation, list));
            if generation <= u64::from(self.faults.drop_streams) {
                break;
            }
        }
        Ok(())
    }
}

/// Kubernetes' rule for names of extended resources: a domain that is not its
/// own, a slash, a name.
fn is_extended_resource(name: &str) -> bool {
    let plain = |text: &str| {
        !text.is_empty()
            && text.len() <= 253
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    name.split_once('/').is_some_and(|(domain, name)| {
        plain(domain)
            && plain(name)
            && name.len() <= 63
            && !domain.starts_with("requests.")
            && domain != "kubernetes.io"
            && !domain.ends_with(".kubernetes.io")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_extended_resources() {
        for good in ["coracle.dev/kvm", "coracle.dev/vhost-net", "a/b"] {
            assert!(is_extended_resource(good), "{good}");
        }
        for bad in [
            "kvm",
            "",
            "/kvm",
            "coracle.dev/",
            "coracle.dev/a/b",
            "kubernetes.io/kvm",
            "node.kubernetes.io/kvm",
            "requests.coracle.dev/kvm",
            "coracle.dev/kvm ",
        ] {
            assert!(!is_extended_resource(bad), "{bad}");
        }
    }
}
