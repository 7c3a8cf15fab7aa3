//! The driver as a process: its arguments, its sockets, its end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use coracle_proto::pluginregistration::registration_server::RegistrationServer;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::backend::Backend;
use crate::controller::Volumes;
use crate::identity::Who;
use crate::node::Devices;
use crate::proto::controller_server::ControllerServer;
use crate::proto::identity_server::IdentityServer;
use crate::proto::node_server::NodeServer;
use crate::registration::{Registrar, socket_name};

/// A CSI driver for tests: volumes are files, devices are loop devices.
#[derive(Clone, Debug, clap::Parser)]
#[command(version)]
pub struct Args {
    /// The socket that its services are on.
    #[arg(long)]
    pub endpoint: PathBuf,
    /// The directory for its volumes.
    #[arg(long)]
    pub data: PathBuf,
    /// The name of the node that it runs on.
    #[arg(long)]
    pub node: String,
    /// The kubelet's directory for registrations; without it, none is made.
    #[arg(long)]
    pub registry: Option<PathBuf>,
    /// How many bytes the volumes may have, all together.
    #[arg(long, default_value_t = 256 << 30)]
    pub capacity: u64,
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        endpoint,
        data,
        node,
        registry,
        capacity,
    } = args;
    let backend = Arc::new(Backend::open(&data, node, capacity).context("opening the volumes")?);
    let driver = Server::builder()
        .add_service(IdentityServer::new(Who))
        .add_service(ControllerServer::new(Volumes(Arc::clone(&backend))))
        .add_service(NodeServer::new(Devices(backend)))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listen(&endpoint)?), stopped());
    tracing::info!(endpoint = %endpoint.display(), "serving");
    let Some(registry) = registry else {
        return driver.await.context("serving");
    };
    // Made last: the kubelet calls the driver as soon as it sees it.
    let socket = registry.join(socket_name());
    let registration = Server::builder()
        .add_service(RegistrationServer::new(Registrar { endpoint }))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listen(&socket)?), stopped());
    let ended = tokio::try_join!(driver, registration);
    // Without the socket, the kubelet no longer counts on the driver.
    let _ = fs::remove_file(&socket);
    ended.map(drop).context("serving")
}

/// Listens on a socket in place of whoever did before.
fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let dir = path.parent().context("a socket has a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", path.display()));
        }
        _ => {}
    }
    UnixListener::bind(path).with_context(|| format!("listening on {}", path.display()))
}

/// Comes when the process is asked to end.
async fn stopped() {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
