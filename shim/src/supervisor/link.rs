//! The QMP connection from before the greeting to after its end, as one thing
//! to wait for.

use std::{fmt, pin::Pin};

use tokio::net::UnixStream;
use tracing::warn;

use crate::{
    qmp::{Command, Connection, Greeting, Incoming, QmpError},
    termination::chain,
};

type Negotiation = Pin<Box<dyn Future<Output = Result<(String, Connection), QmpError>> + Send>>;

/// The connection in whatever state it is.
pub(super) enum Link {
    Negotiating(Negotiation),
    Ready(Connection),
    Closed,
}

/// What there is to hear.
pub(super) enum News {
    /// The negotiation is over.
    Ready {
        /// qemu's version.
        version: String,
    },
    /// A reply or an event.
    Incoming(Incoming),
    /// Nothing more will come.
    Lost {
        /// Why not.
        why: String,
    },
}

impl Link {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self::Negotiating(Box::pin(async move {
            let greeting = Greeting::read(stream).await?;
            let version = greeting.version().to_owned();
            Ok((version, greeting.negotiate().await?))
        }))
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// Queues a command, if there is somebody to take it.
    pub(super) fn send(&mut self, command: Command) {
        match self {
            Self::Ready(connection) => connection.send(command),
            Self::Negotiating(_) | Self::Closed => {
                warn!(%command, "qemu cannot be told any more");
            }
        }
    }

    /// What comes next; nothing ever does once it is closed.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> News {
        loop {
            let error = match self {
                Self::Negotiating(negotiation) => match negotiation.await {
                    Ok((version, connection)) => {
                        *self = Self::Ready(connection);
                        return News::Ready { version };
                    }
                    Err(error) => error,
                },
                Self::Ready(connection) => match connection.next().await {
                    Ok(incoming) => return News::Incoming(incoming),
                    Err(error) if error.is_fatal() => error,
                    Err(error) => {
                        warn!(error = chain(&error), "passing over what qemu sent");
                        continue;
                    }
                },
                Self::Closed => std::future::pending().await,
            };
            *self = Self::Closed;
            return News::Lost { why: chain(&error) };
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Negotiating(_) => "Negotiating",
            Self::Ready(_) => "Ready",
            Self::Closed => "Closed",
        })
    }
}
