//! The connection: greeting, negotiation, then commands out and replies and
//! events in.

use std::{collections::VecDeque, io};

use serde_json::Value;
use tokio::net::UnixStream;

use super::{
    codec::{CodecError, Decoder, Message},
    command::Command,
    event::Event,
};

/// Why a connection cannot be used, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket failed.
    #[error("the QMP socket failed")]
    Socket {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// qemu closed its end.
    #[error("qemu closed its QMP socket")]
    Closed,
    /// A line is no message. The connection can still be used.
    #[error("qemu sent something on QMP that is not a message")]
    Codec {
        /// What is wrong with it.
        #[from]
        source: CodecError,
    },
    /// The first message is not a greeting.
    #[error("qemu did not greet on QMP")]
    NoGreeting,
    /// The negotiation was refused.
    #[error("qemu refused the QMP negotiation: {description}")]
    Refused {
        /// qemu's description.
        description: String,
    },
}

impl QmpError {
    /// Whether the connection is gone.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Codec { .. })
    }
}

/// What qemu said to a command that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

/// What came in.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// The reply to a command.
    Reply {
        /// The command.
        command: Command,
        /// What it returned.
        result: Result<Value, Failure>,
    },
    /// An event.
    Event(Event),
}

/// A connection on which qemu has greeted.
#[derive(Debug)]
pub struct Greeting {
    wire: Wire,
    version: String,
}

impl Greeting {
    /// Waits for the greeting.
    ///
    /// # Errors
    /// The peer closes the connection or sends something else; both are final.
    ///
    /// # Cancellation
    /// The connection is closed.
    pub async fn read(stream: UnixStream) -> Result<Self, QmpError> {
        let mut wire = Wire {
            stream,
            decoder: Decoder::new(),
            outgoing: VecDeque::new(),
        };
        match wire.next().await? {
            Message::Greeting { version } => Ok(Self { wire, version }),
            _ => Err(QmpError::NoGreeting),
        }
    }

    /// qemu's version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Negotiates: no capability is asked for.
    ///
    /// # Errors
    /// As [`read`](Self::read), and when qemu refuses.
    ///
    /// # Cancellation
    /// The connection is closed.
    pub async fn negotiate(self) -> Result<Connection, QmpError> {
        let Self { wire, .. } = self;
        let mut connection = Connection {
            wire,
            next_id: 0,
            waiting: VecDeque::new(),
        };
        connection.send(Command::Capabilities);
        loop {
            match connection.next().await? {
                Incoming::Reply { result: Ok(_), .. } => return Ok(connection),
                Incoming::Reply {
                    result: Err(Failure(description)),
                    ..
                } => {
                    return Err(QmpError::Refused { description });
                }
                // The protocol sends none before, but nothing hangs on that.
                Incoming::Event(_) => {}
            }
        }
    }
}

/// A negotiated connection.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    next_id: u64,
    /// Commands without reply, oldest first.
    waiting: VecDeque<(u64, Command)>,
}

impl Connection {
    /// Queues a command. It goes out while [`next`](Self::next) is waited for.
    pub fn send(&mut self, command: Command) {
        self.wire
            .outgoing
            .extend(command.to_line(self.next_id).into_bytes());
        self.waiting.push_back((self.next_id, command));
        self.next_id += 1;
    }

    /// The next reply or event. Replies to commands that were never given are
    /// passed over.
    ///
    /// # Errors
    /// See [`QmpError::is_fatal`]: after a line that is no message, call again.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub async fn next(&mut self) -> Result<Incoming, QmpError> {
        loop {
            let (id, result) = match self.wire.next().await? {
                Message::Event { name, data } => {
                    return Ok(Incoming::Event(Event::new(name, &data)));
                }
                Message::Return { id, value } => (Some(id), Ok(value)),
                // qemu answers in order, so an error that names no command is
                // about the oldest one.
                Message::Error { id, description } => (
                    id.or_else(|| self.waiting.front().map(|(id, _)| *id)),
                    Err(Failure(description)),
                ),
                Message::Greeting { .. } => continue,
            };
            if let Some(at) = self
                .waiting
                .iter()
                .position(|(waiting, _)| Some(*waiting) == id)
                && let Some((_, command)) = self.waiting.remove(at)
            {
                return Ok(Incoming::Reply { command, result });
            }
        }
    }
}

/// The socket with what is on its way in and out.
#[derive(Debug)]
struct Wire {
    stream: UnixStream,
    decoder: Decoder,
    outgoing: VecDeque<u8>,
}

impl Wire {
    /// Reads until there is a message, and writes what waits to be written.
    async fn next(&mut self) -> Result<Message, QmpError> {
        let socket = |source| QmpError::Socket { source };
        loop {
            if let Some(message) = self.decoder.next_message() {
                return Ok(message?);
            }
            if self.outgoing.is_empty() {
                self.stream.readable().await.map_err(socket)?;
            } else {
                tokio::select! {
                    ready = self.stream.readable() => ready.map_err(socket)?,
                    ready = self.stream.writable() => {
                        ready.map_err(socket)?;
                        self.flush()?;
                    }
                }
            }
            let mut bytes = [0; 1024];
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return Err(QmpError::Closed),
                Ok(length) => self.decoder.feed(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(QmpError::Closed);
                }
                Err(source) => return Err(QmpError::Socket { source }),
            }
        }
    }

    fn flush(&mut self) -> Result<(), QmpError> {
        let (front, _) = self.outgoing.as_slices();
        match self.stream.try_write(front) {
            Ok(written) => {
                self.outgoing.drain(..written);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            // What qemu said last is still to be read; reading finds the end.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.outgoing.clear();
                Ok(())
            }
            Err(source) => Err(QmpError::Socket { source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const GREETING: &[u8] =
        br#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}}
"#;

    async fn negotiated() -> (Connection, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().expect("socketpair");
        let peer = async {
            theirs.write_all(GREETING).await.expect("write");
            let mut line = [0; 64];
            let length = theirs.read(&mut line).await.expect("read");
            assert_eq!(
                &line[..length],
                b"{\"execute\":\"qmp_capabilities\",\"id\":0}\n"
            );
            theirs
                .write_all(b"{\"return\": {}, \"id\": 0}\r\n")
                .await
                .expect("write");
        };
        let shim = async {
            let greeting = Greeting::read(ours).await.expect("greets");
            assert_eq!(greeting.version(), "7.2.22");
            greeting.negotiate().await.expect("negotiates")
        };
        let ((), connection) = tokio::join!(peer, shim);
        (connection, theirs)
    }

    #[tokio::test]
    async fn replies_find_their_command_whatever_their_order() {
        let (mut qmp, mut peer) = negotiated().await;
        qmp.send(Command::Cont);
        qmp.send(Command::QueryStatus);
        peer.write_all(
            b"{\"return\": {\"status\": \"running\"}, \"id\": 2}\n{\"event\": \"RESUME\"}\n\
              {\"return\": {}, \"id\": 99}\n{\"error\": {\"class\": \"x\", \"desc\": \"no\"}, \"id\": 1}\n",
        )
        .await
        .expect("write");
        let Incoming::Reply {
            command: Command::QueryStatus,
            result: Ok(_),
        } = qmp.next().await.expect("reply")
        else {
            panic!("not the status");
        };
        assert_eq!(
            qmp.next().await.expect("event"),
            Incoming::Event(Event::Resume)
        );
        assert_eq!(
            qmp.next().await.expect("reply"),
            Incoming::Reply {
                command: Command::Cont,
                result: Err(Failure("no".into()))
            }
        );
    }

    #[tokio::test]
    async fn garbage_is_reported_and_the_connection_goes_on() {
        let (mut qmp, mut peer) = negotiated().await;
        peer.write_all(b"\xff\xfe\n{\"event\": \"STOP\"}\n")
            .await
            .expect("write");
        let error = qmp.next().await.expect_err("garbage");
        assert!(!error.is_fatal());
        assert_eq!(
            qmp.next().await.expect("event"),
            Incoming::Event(Event::Stop)
        );
        drop(peer);
        assert!(matches!(qmp.next().await, Err(QmpError::Closed)));
    }

    #[tokio::test]
    async fn a_peer_that_does_not_greet_is_refused() {
        let (ours, mut theirs) = UnixStream::pair().expect("socketpair");
        theirs
            .write_all(b"{\"event\": \"STOP\"}\n")
            .await
            .expect("write");
        assert!(matches!(
            Greeting::read(ours).await,
            Err(QmpError::NoGreeting)
        ));
    }

    #[tokio::test]
    async fn a_refused_negotiation_says_why() {
        let (ours, mut theirs) = UnixStream::pair().expect("socketpair");
        theirs.write_all(GREETING).await.expect("write");
        theirs
            .write_all(b"{\"error\": {\"class\": \"x\", \"desc\": \"busy\"}}\n")
            .await
            .expect("write");
        let greeting = Greeting::read(ours).await.expect("greets");
        let error = greeting.negotiate().await.expect_err("refused");
        assert!(matches!(error, QmpError::Refused { description } if description == "busy"));
    }
}
