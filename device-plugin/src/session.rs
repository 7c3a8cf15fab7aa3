//! One registration: the plugin's socket, the server on it, and the kubelet
//! that was told of it. Nothing of it survives into the next one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_proto::deviceplugin::device_plugin_client::DevicePluginClient;
use coracle_proto::deviceplugin::device_plugin_server::DevicePluginServer;
use coracle_proto::deviceplugin::registration_client::RegistrationClient;
use coracle_proto::deviceplugin::{Empty, RegisterRequest, VERSION};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};

use crate::config::Config;
use crate::contact::Contact;
use crate::grant::remove_if_there;
use crate::ledger::Ledger;
use crate::listing::Receiver;
use crate::metrics::Metrics;
use crate::resource::Resource;
use crate::service::{Service, options};
use crate::socket::SocketId;

/// How long our own server may take to answer us.
const SELF_LIMIT: Duration = Duration::from_secs(5);
/// How long the kubelet may take to register us: it dials back in the call and
/// gives that ten seconds.
const REGISTER_LIMIT: Duration = Duration::from_secs(20);
/// How long the kubelet's connections may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Why a registration did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("failed to listen on {}", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("another process serves {}: two device plugins run on this node", path.display())]
    Occupied { path: PathBuf },
    #[error("failed to dial {}", path.display())]
    Dial {
        path: PathBuf,
        source: tonic::transport::Error,
    },
    #[error("{} did not answer within {} s", path.display(), limit.as_secs())]
    Unanswered { path: PathBuf, limit: Duration },
    #[error("our own server answers with an error: {}", source.message())]
    OwnServer { source: Box<tonic::Status> },
    #[error("the kubelet refused the registration: {}", source.message())]
    Refused { source: Box<tonic::Status> },
    #[error(
        "the kubelet's calls are refused before they reach the plugin: so it is with kubelets \
         before 1.26, which send the path of a socket as HTTP/2 authority; this plugin needs \
         Kubernetes 1.26 or newer on the node"
    )]
    Unheard,
}

impl SessionError {
    /// The reason in one word, as the metrics have it.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Listen { .. } => "not_listening",
            Self::Occupied { .. } => "occupied",
            Self::Dial { .. } => "not_dialled",
            Self::Unanswered { .. } => "unanswered",
            Self::OwnServer { .. } => "own_server",
            Self::Refused { .. } => "refused",
            Self::Unheard => "unheard",
        }
    }
}

/// A server on the plugin's socket. Dropping it removes the socket and stops
/// the server without waiting.
pub(crate) struct Session {
    resource: Arc<Resource>,
    socket: PathBuf,
    id: SocketId,
    contact: watch::Receiver<Contact>,
    stop: CancellationToken,
    server: Option<JoinHandle<()>>,
}

impl Session {
    /// Serves the plugin's socket, and makes sure that it answers.
    pub(crate) async fn serve(
        config: Arc<Config>,
        resource: Arc<Resource>,
        listing: Receiver,
        (ledger, metrics): (Arc<Ledger>, Arc<Metrics>),
    ) -> Result<Self, SessionError> {
        let socket = config.socket(&resource.name);
        let failed = |source| SessionError::Listen {
            path: socket.clone(),
            source,
        };
        let listener = match listen(&socket).await {
            Ok(listener) => listener,
            // Two plugins that take the socket from each other would do so
            // for ever; the later one waits.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(SessionError::Occupied { path: socket });
            }
            Err(source) => return Err(failed(source)),
        };
        let id = SocketId::of(&socket)
            .ok_or_else(|| failed(io::Error::new(io::ErrorKind::NotFound, "it is gone again")))?;
        let stop = CancellationToken::new();
        let (sender, contact) = watch::channel(Contact::default());
        let connections = sender.clone();
        let service = Service {
            config,
            resource: resource.clone(),
            listing,
            ledger,
            metrics,
            contact: sender.clone(),
            stop: stop.clone(),
        };
        let server = Server::builder()
            .add_service(DevicePluginServer::new(service))
            .serve_with_incoming_shutdown(
                UnixListenerStream::new(listener).map(move |connection| {
                    connections.send_modify(|contact| contact.connections += 1);
                    connection
                }),
                stop.clone().cancelled_owned(),
            );
        // Whether it still serves is seen on its socket and its streams.
        let server = tokio::spawn(async move { drop(server.await) });
        let session = Self {
            resource,
            socket: socket.clone(),
            id,
            contact,
            stop,
            server: Some(server),
        };
        session.answers().await?;
        // That was ourselves.
        sender.send_replace(Contact::default());
        Ok(session)
    }

    /// Dials our own socket, as the kubelet will.
    async fn answers(&self) -> Result<(), SessionError> {
        let asked = async {
            let mut client = DevicePluginClient::new(dial(&self.socket).await?);
            client
                .get_device_plugin_options(Empty {})
                .await
                .map_err(|status| SessionError::OwnServer {
                    source: Box::new(status),
                })
        };
        limited(&self.socket, SELF_LIMIT, asked).await.map(|_| ())
    }

    /// Tells the kubelet of the socket.
    pub(crate) async fn register(&self, kubelet: &Path) -> Result<(), SessionError> {
        let request = RegisterRequest {
            version: VERSION.into(),
            endpoint: self.resource.socket(),
            resource_name: self.resource.name.clone(),
            options: Some(options(&self.resource)),
        };
        let asked = async {
            RegistrationClient::new(dial(kubelet).await?)
                .register(request)
                .await
                .map_err(|status| SessionError::Refused {
                    source: Box::new(status),
                })
        };
        limited(kubelet, REGISTER_LIMIT, asked).await.map(|_| ())
    }

    /// Whether the socket at our path is still ours.
    pub(crate) fn is_there(&self) -> bool {
        SocketId::of(&self.socket) == Some(self.id)
    }

    /// What the kubelet does.
    pub(crate) fn contact(&self) -> watch::Receiver<Contact> {
        self.contact.clone()
    }

    /// Takes no more calls: ends the streams, and removes the socket unless it
    /// is another's by now.
    fn withdraw(&self) {
        self.stop.cancel();
        if self.is_there() {
            let _ = std::fs::remove_file(&self.socket);
        }
    }

    /// Ends the streams and the connections, and removes the socket. When this
    /// returns, nothing of this registration can disturb the next: kubelets
    /// take the late end of an old stream for the end of the new one.
    pub(crate) async fn close(mut self) {
        self.withdraw();
        if let Some(mut server) = self.server.take()
            && timeout(CLOSE_LIMIT, &mut server).await.is_err()
        {
            server.abort();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.withdraw();
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }
}

/// Listens on the path, in the place of a socket that nobody serves: a plugin
/// that was killed leaves one.
pub(crate) async fn listen(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(error);
            }
            remove_if_there(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

pub(crate) async fn dial(path: &Path) -> Result<Channel, SessionError> {
    let failed = |source| SessionError::Dial {
        path: path.to_owned(),
        source,
    };
    let endpoint = Endpoint::from_shared(format!("unix://{}", path.display())).map_err(failed)?;
    endpoint.connect().await.map_err(failed)
}

async fn limited<T>(
    path: &Path,
    limit: Duration,
    asked: impl Future<Output = Result<T, SessionError>>,
) -> Result<T, SessionError> {
    timeout(limit, asked).await.unwrap_or_else(|_| {
        Err(SessionError::Unanswered {
            path: path.to_owned(),
            limit,
        })
    })
}
