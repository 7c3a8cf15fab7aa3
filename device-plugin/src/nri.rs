//! A plugin of the container runtime's Node Resource Interface (NRI v1alpha1):
//! containers that get a device of VFIO may lock memory, with nothing on the
//! node reconfigured. [`answer`] decides on each, [`wire`] has the bytes.
//!
//! ```text
//!            nri.sock is there       registered, asked what for
//!  Waiting ───────────────────► dial ──────────────────────────► Connected
//!     ▲                           │ failed: pause                    │
//!     └───────────────────────────┴──────────────────────────────────┘
//!                     nri.sock replaced · connection ended
//! ```
//!
//! What it must never do: keep the runtime waiting, or fail a container. So an
//! answer takes no I/O, is never an error, and who disturbs the runtime by
//! coming back does so once a minute at most. What goes wrong here changes
//! nothing for the plugin's resources.

mod answer;
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_proto::nri::{RUNTIME, RegisterPluginRequest};
use coracle_proto::ttrpc::{Request, Response};
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::check::chain;
use crate::metrics::Metrics;
use crate::socket::SocketId;
use answer::{Heard, answer};
use wire::{Connection, Decoder, Kind, Message, WireError};

/// The plugin's name in the runtime.
const NAME: &str = "coracle-memory-lock";
/// Its place among the runtime's plugins: late, to see what others have set.
const INDEX: &str = "90";
/// The stream of the one call that the plugin makes.
const REGISTER: u32 = 1;
/// How long registering may take; runtimes give it five seconds.
const REGISTER_LIMIT: Duration = Duration::from_secs(15);
/// How long the runtime may take to take an answer.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// How often the socket is looked for without an event.
const POLL: Duration = Duration::from_secs(5);
/// The pause after a connection that ended, doubled each time: for each new
/// one the runtime holds up containers until it has told of those it has.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause. A new socket ends any.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const BUFFER: usize = 4096;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("failed to dial {}", path.display())]
    Dial { path: PathBuf, source: io::Error },
    #[error("the runtime refused the plugin: {message}")]
    Refused { message: String },
    #[error("the runtime did not register the plugin within {} s", REGISTER_LIMIT.as_secs())]
    Unregistered,
    #[error("the runtime took no answer within {} s", WRITE_LIMIT.as_secs())]
    Stuck,
    #[error("the runtime closed the connection")]
    Closed,
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the runtime sent what is not NRI")]
    Wire(#[from] WireError),
    #[error("the runtime's answer cannot be read")]
    Answer(#[from] prost::DecodeError),
}

/// The plugin, with what it is woken by.
pub(crate) struct Keeper {
    pub(crate) socket: PathBuf,
    /// Something happened at the socket.
    pub(crate) changed: Arc<Notify>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Keeper {
    /// Keeps connected with the runtime until it is stopped.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        self.metrics.runtime_connected(false);
        let _ = stop.run_until_cancelled(self.forever()).await;
    }

    async fn forever(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let socket = self.present().await;
            let begun = Instant::now();
            let error = match self.connected().await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            self.metrics.runtime_connected(false);
            warn!(
                error = chain(&error),
                "not connected with the container runtime, trying again"
            );
            if begun.elapsed() >= LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            let replaced = timeout(pause, self.replaced(socket)).await.is_ok();
            pause = if replaced {
                FIRST_PAUSE
            } else {
                (pause * 2).min(LONGEST_PAUSE)
            };
        }
    }

    /// The runtime's socket, once it is there.
    async fn present(&self) -> SocketId {
        let mut waiting = false;
        loop {
            if let Some(id) = SocketId::of(&self.socket) {
                return id;
            }
            if !waiting {
                info!(
                    socket = %self.socket.display(),
                    "the container runtime takes no plugins (NRI): the limit on locked memory is \
                     its own until it does"
                );
                waiting = true;
            }
            let _ = timeout(POLL, self.changed.notified()).await;
        }
    }

    /// Waits until there is another socket.
    async fn replaced(&self, before: SocketId) {
        while SocketId::of(&self.socket).is_none_or(|now| now == before) {
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep(POLL) => {}
            }
        }
    }

    /// Registers with the runtime, and answers it until the connection ends.
    async fn connected(&self) -> Result<std::convert::Infallible, LinkError> {
        let mut link = Link::dial(&self.socket).await?;
        let registered = timeout(REGISTER_LIMIT, link.register()).await;
        registered.map_err(|_| LinkError::Unregistered)??;
        self.metrics.runtime_connected(true);
        info!("connected with the container runtime");
        loop {
            let message = link.receive().await?;
            if let Some(heard) = link.hear(&message).await? {
                self.tell(heard);
            }
        }
    }

    fn tell(&self, heard: Heard) {
        match heard {
            Heard::Vfio { container, raised } => {
                self.metrics.memory_lock(raised);
                if raised {
                    info!(container, "may lock memory for its device");
                } else {
                    info!(
                        container,
                        "somebody else has set its limit on locked memory"
                    );
                }
            }
            Heard::Garbled { method, error } => {
                warn!(method, %error, "a call of the container runtime cannot be read");
            }
            Heard::Configured | Heard::Nothing => {}
        }
    }
}

/// A connection with the runtime.
struct Link {
    stream: UnixStream,
    decoder: Decoder,
}

impl Link {
    async fn dial(path: &Path) -> Result<Self, LinkError> {
        let failed = |source| LinkError::Dial {
            path: path.to_owned(),
            source,
        };
        let stream = UnixStream::connect(path).await.map_err(failed)?;
        let decoder = Decoder::default();
        Ok(Self { stream, decoder })
    }

    /// Registers: the runtime answers that call, and makes one of its own to
    /// learn what the plugin wants to hear of, in either order.
    async fn register(&mut self) -> Result<(), LinkError> {
        let request = RegisterPluginRequest {
            plugin_name: NAME.to_owned(),
            plugin_idx: INDEX.to_owned(),
        };
        let call = Request {
            service: RUNTIME.to_owned(),
            method: "RegisterPlugin".to_owned(),
            payload: request.encode_to_vec(),
            timeout_nano: 0,
        };
        let message = Message {
            connection: Connection::Runtime,
            stream: REGISTER,
            kind: Kind::Request,
            payload: call.encode_to_vec(),
        };
        self.send(&message).await?;
        let (mut registered, mut configured) = (false, false);
        while !(registered && configured) {
            let message = self.receive().await?;
            configured |= self.hear(&message).await? == Some(Heard::Configured);
            registered |= accepts(&message)?;
        }
        Ok(())
    }

    /// The next message.
    ///
    /// # Cancellation
    /// Loses nothing.
    async fn receive(&mut self) -> Result<Message, LinkError> {
        let mut buffer = [0; BUFFER];
        loop {
            if let Some(message) = self.decoder.message()? {
                return Ok(message);
            }
            match self.stream.read(&mut buffer).await? {
                0 => return Err(LinkError::Closed),
                length => self.decoder.push(&buffer[..length]),
            }
        }
    }

    /// Answers a message, if it is a call of the runtime.
    async fn hear(&mut self, message: &Message) -> Result<Option<Heard>, LinkError> {
        let Some((reply, heard)) = reply(message)? else {
            return Ok(None);
        };
        self.send(&reply).await?;
        Ok(Some(heard))
    }

    async fn send(&mut self, message: &Message) -> Result<(), LinkError> {
        let bytes = message.encode();
        let sent = timeout(WRITE_LIMIT, self.stream.write_all(&bytes)).await;
        Ok(sent.map_err(|_| LinkError::Stuck)??)
    }
}

/// The answer to a message, if it is a call of the runtime.
fn reply(message: &Message) -> Result<Option<(Message, Heard)>, LinkError> {
    if (message.connection, message.kind) != (Connection::Plugin, Kind::Request) {
        return Ok(None);
    }
    let request = Request::decode(message.payload.as_slice())?;
    debug!(method = request.method, "a call of the container runtime");
    let (response, heard) = answer(&request);
    let reply = Message {
        kind: Kind::Response,
        payload: response.encode_to_vec(),
        ..*message
    };
    Ok(Some((reply, heard)))
}

/// Whether a message is the runtime's consent to the plugin.
fn accepts(message: &Message) -> Result<bool, LinkError> {
    let expected = (Connection::Runtime, Kind::Response, REGISTER);
    if (message.connection, message.kind, message.stream) != expected {
        return Ok(false);
    }
    let response = Response::decode(message.payload.as_slice())?;
    match response.status.filter(|status| status.code != 0) {
        Some(status) => Err(LinkError::Refused {
            message: status.message,
        }),
        None => Ok(true),
    }
}

/// Reads and answers what a runtime sent, for the fuzzer.
pub(crate) fn receive(bytes: &[u8]) {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    while let Ok(Some(message)) = decoder.message() {
        let _ = (reply(&message), accepts(&message));
    }
}
