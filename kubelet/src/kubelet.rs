//! The kubelet of one plugin directory: serves `kubelet.sock`, and hands out
//! what the plugins have.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use coracle_proto::deviceplugin::registration_server::RegistrationServer;
use coracle_proto::deviceplugin::{ContainerAllocateResponse, KUBELET_SOCKET};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tracing::error;

use crate::accounts::{Accounts, Device, choose};
use crate::error::KubeletError;
use crate::options::Options;
use crate::pod_resources;
use crate::registration::Shared;

mod directory;

/// How long the connections of a kubelet that stops may take to close.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The kubelet's side of device plugins for one directory.
///
/// Dropping it ends its tasks and leaves the socket as it is, like a kubelet
/// that was killed; [`stop`](Self::stop) ends it in order.
#[derive(Debug)]
pub struct Kubelet {
    shared: Shared,
    socket: PathBuf,
    leave_socket: bool,
    /// Pods are admitted one at a time, as by the kubelet: no device can be
    /// promised twice while a plugin thinks.
    admission: Mutex<()>,
    _stop: DropGuard,
}

/// Devices that were given out.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// The devices; they are held until they are
    /// [released](Kubelet::release).
    pub ids: Vec<String>,
    /// What the plugin wants the container to get.
    pub response: ContainerAllocateResponse,
}

impl Kubelet {
    /// Starts a kubelet in `dir`, which is made if it is not there. Plugins
    /// can register when this returns.
    #[expect(
        clippy::unused_async,
        reason = "it must be called in a runtime, which this enforces"
    )]
    pub async fn serve(dir: &Path, options: Options) -> Result<Self, KubeletError> {
        let socket = dir.join(KUBELET_SOCKET);
        let listener = directory::take_over(dir, &socket, options.takeover)?;
        let stop = CancellationToken::new();
        let shared = Shared {
            dir: dir.to_owned(),
            accounts: watch::Sender::new(Accounts::default()),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
            faults: options.faults,
            attempts: Arc::new(AtomicU32::new(0)),
        };
        let server = Server::builder()
            .add_service(RegistrationServer::new(shared.clone()))
            .serve_with_incoming_shutdown(
                UnixListenerStream::new(listener),
                stop.clone().cancelled_owned(),
            );
        shared.tasks.spawn(async move {
            if let Err(error) = server.await {
                error!(%error, "the registration server failed");
            }
        });
        if let Some(socket) = &options.pod_resources {
            pod_resources::serve(socket, &shared)?;
        }
        Ok(Self {
            shared,
            socket,
            leave_socket: options.leave_socket,
            admission: Mutex::new(()),
            _stop: stop.drop_guard(),
        })
    }

    /// All devices of a resource, in the plugin's order; empty for a resource
    /// that was never registered.
    #[must_use]
    pub fn devices(&self, resource: &str) -> Vec<Device> {
        self.shared.accounts.borrow().devices(resource).to_vec()
    }

    /// How many registrations there were, refused ones included.
    #[must_use]
    pub fn registrations(&self) -> u32 {
        self.shared.attempts.load(Ordering::Relaxed)
    }

    /// Waits until the devices of a resource are as wanted, and returns them.
    pub async fn wait_for(
        &self,
        resource: &str,
        what: impl Fn(&[Device]) -> bool,
        limit: Duration,
    ) -> Result<Vec<Device>, KubeletError> {
        let mut changes = self.shared.accounts.subscribe();
        let reached = timeout(limit, changes.wait_for(|now| what(now.devices(resource)))).await;
        if let Ok(Ok(accounts)) = reached {
            return Ok(accounts.devices(resource).to_vec());
        }
        let devices = self.devices(resource);
        let healthy = devices.iter().filter(|device| device.healthy).count();
        Err(KubeletError::Timeout {
            resource: resource.to_owned(),
            limit,
            seen: format!("{healthy} of {} devices are healthy", devices.len()),
        })
    }

    /// Gives out `count` devices of a resource to one container, and tells the
    /// plugin that the container is about to start if it wants to know.
    ///
    /// # Cancellation
    /// A dropped call holds no device; the plugin may have been asked.
    pub async fn allocate(&self, resource: &str, count: usize) -> Result<Allocation, KubeletError> {
        let _admission = self.admission.lock().await;
        let (mut plugin, free) = self.shared.accounts.borrow().free(resource, count)?;
        let preferred = plugin.preferred(&free, count).await?;
        let ids = choose(&free, &preferred, count);
        let response = plugin.allocate(&ids).await?;
        plugin.pre_start(&ids).await?;
        self.shared
            .accounts
            .send_modify(|accounts| accounts.hold(resource, &ids));
        Ok(Allocation { ids, response })
    }

    /// Tells the plugin that a container which has the devices is about to
    /// start again, if it wants to know.
    pub async fn pre_start(&self, resource: &str, ids: &[String]) -> Result<(), KubeletError> {
        let mut plugin = self.shared.accounts.borrow().plugin(resource)?;
        plugin.pre_start(ids).await
    }

    /// Takes devices as in use that an earlier kubelet gave out.
    pub fn adopt(&self, resource: &str, ids: &[String]) {
        self.shared
            .accounts
            .send_modify(|accounts| accounts.hold(resource, ids));
    }

    /// Takes devices back. The protocol has no word for it: the plugin is not
    /// told.
    pub fn release(&self, resource: &str, ids: &[String]) {
        self.shared
            .accounts
            .send_modify(|accounts| accounts.release(resource, ids));
    }

    /// Ends the kubelet: the plugins' streams are closed, and the socket goes
    /// unless the options say that it stays.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        // A peer that keeps its connection open must not keep us.
        let _ = timeout(STOP_LIMIT, self.shared.tasks.wait()).await;
        if !self.leave_socket {
            // Gone already, or another kubelet's by now: either is fine.
            let _ = std::fs::remove_file(&self.socket);
        }
    }
}
