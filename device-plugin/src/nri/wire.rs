//! The bytes between a plugin of the Node Resource Interface and its runtime
//! (NRI 0.12 `pkg/net/multiplex`, ttrpc 1.2 `PROTOCOL.md`). No I/O.
//!
//! ```text
//!  socket      = frame…
//!  frame       = connection (u32), length (u32), part of that connection's bytes
//!  connection  = message…
//!  message     = length (u32), stream (u32), kind (u8), flags (u8), payload
//! ```
//!
//! All numbers are big-endian. Over connection 1 the runtime calls the plugin,
//! over connection 2 the plugin the runtime. A message may come in several
//! frames, and none is longer than 4 MiB.

/// The longest payload of a message.
const PAYLOAD_MAX: usize = 4 << 20;
const FRAME_HEAD: usize = 8;
const MESSAGE_HEAD: usize = 10;
/// The longest part of a connection in one frame that we send: the runtime
/// reads into a buffer of this size, and gives up on a frame that is longer.
const PART_MAX: usize = 4096;

/// One of the connections within the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// The runtime calls the plugin.
    Plugin = 1,
    /// The plugin calls the runtime.
    Runtime = 2,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A call.
    Request = 1,
    /// The answer to one.
    Response = 2,
}

/// A message, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) connection: Connection,
    /// Which call it belongs to.
    pub(crate) stream: u32,
    pub(crate) kind: Kind,
    pub(crate) payload: Vec<u8>,
}

/// What is no such message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a frame of {length} bytes: at most {PAYLOAD_MAX} and a head may be")]
    LongFrame { length: usize },
    #[error("a message of {length} bytes: at most {PAYLOAD_MAX} may be")]
    LongMessage { length: usize },
    #[error("a message of kind {kind}: only calls and answers are expected")]
    Kind { kind: u8 },
}

impl Message {
    /// The bytes to send.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(MESSAGE_HEAD + self.payload.len());
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend([self.kind as u8, 0]);
        bytes.extend(&self.payload);
        let mut frames = Vec::with_capacity(bytes.len() + FRAME_HEAD);
        for part in bytes.chunks(PART_MAX) {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            frames.extend((self.connection as u32).to_be_bytes());
            frames.extend(length.to_be_bytes());
            frames.extend(part);
        }
        frames
    }
}

/// Puts messages together from bytes as they come.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// What no whole frame has come of yet.
    trunk: Vec<u8>,
    plugin: Vec<u8>,
    runtime: Vec<u8>,
}

impl Decoder {
    /// Takes in what was received.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.trunk.extend(bytes);
    }

    /// The next message, once it is whole.
    pub(crate) fn message(&mut self) -> Result<Option<Message>, WireError> {
        loop {
            if let Some(message) = message(Connection::Plugin, &mut self.plugin)? {
                return Ok(Some(message));
            }
            if let Some(message) = message(Connection::Runtime, &mut self.runtime)? {
                return Ok(Some(message));
            }
            let [Some(connection), Some(length)] = [0, 4].map(|at| number(&self.trunk, at)) else {
                return Ok(None);
            };
            if length > PAYLOAD_MAX + MESSAGE_HEAD {
                return Err(WireError::LongFrame { length });
            }
            let Some(part) = take(&mut self.trunk, FRAME_HEAD, length) else {
                return Ok(None);
            };
            match connection {
                1 => self.plugin.extend(part),
                2 => self.runtime.extend(part),
                // Of a connection that nobody opened; the runtime drops it too.
                _ => {}
            }
        }
    }
}

/// A message off the beginning of its connection.
fn message(connection: Connection, bytes: &mut Vec<u8>) -> Result<Option<Message>, WireError> {
    let (Some(length), Some(stream), Some(kind)) = (number(bytes, 0), word(bytes, 4), bytes.get(8))
    else {
        return Ok(None);
    };
    if length > PAYLOAD_MAX {
        return Err(WireError::LongMessage { length });
    }
    let kind = match kind {
        1 => Kind::Request,
        2 => Kind::Response,
        kind => return Err(WireError::Kind { kind: *kind }),
    };
    Ok(take(bytes, MESSAGE_HEAD, length).map(|payload| Message {
        connection,
        stream,
        kind,
        payload,
    }))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(word))
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    word(bytes, at).and_then(|word| usize::try_from(word).ok())
}

/// What follows a head, once it is there; both are gone from `bytes` then, and
/// so is the room of what was long.
fn take(bytes: &mut Vec<u8>, head: usize, length: usize) -> Option<Vec<u8>> {
    let end = head.checked_add(length)?;
    let taken = bytes.get(head..end)?.to_vec();
    let rest = bytes[end..].to_vec();
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(decoder: &mut Decoder) -> Result<Vec<Message>, WireError> {
        let mut messages = vec![];
        while let Some(message) = decoder.message()? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[test]
    fn the_bytes_are_those_of_the_specifications() {
        let message = Message {
            connection: Connection::Runtime,
            stream: 3,
            kind: Kind::Request,
            payload: b"ab".to_vec(),
        };
        let bytes = [
            0, 0, 0, 2, 0, 0, 0, 12, // the frame
            0, 0, 0, 2, 0, 0, 0, 3, 1, 0, b'a', b'b', // the message
        ];
        assert_eq!(message.encode(), bytes);
        let mut decoder = Decoder::default();
        decoder.push(&bytes[..19]);
        assert_eq!(decoder.message(), Ok(None));
        decoder.push(&bytes[19..]);
        assert_eq!(decoder.message(), Ok(Some(message)));
        assert_eq!(decoder.message(), Ok(None));
    }

    #[test]
    fn what_is_too_long_or_of_another_kind_is_refused_at_its_head() {
        for (bytes, error) in [
            (
                &[0, 0, 0, 1, 0, 64, 0, 11][..],
                WireError::LongFrame { length: 4_194_315 },
            ),
            (
                &[0, 0, 0, 1, 0, 0, 0, 10, 0, 64, 0, 1, 0, 0, 0, 1, 1, 0],
                WireError::LongMessage { length: 4_194_305 },
            ),
            (
                &[0, 0, 0, 1, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0],
                WireError::Kind { kind: 3 },
            ),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            assert_eq!(decoder.message(), Err(error));
        }
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let payload = prop_oneof![
            3 => prop::collection::vec(any::<u8>(), 0..64),
            1 => prop::collection::vec(any::<u8>(), 4000..9000),
        ];
        (any::<bool>(), any::<u32>(), any::<bool>(), payload).prop_map(
            |(plugin, stream, request, payload)| Message {
                connection: if plugin {
                    Connection::Plugin
                } else {
                    Connection::Runtime
                },
                stream,
                kind: if request {
                    Kind::Request
                } else {
                    Kind::Response
                },
                payload,
            },
        )
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut(
            sent in prop::collection::vec(any_message(), 1..6),
            cut in 1..5000_usize,
        ) {
            let bytes: Vec<u8> = sent.iter().flat_map(Message::encode).collect();
            let mut decoder = Decoder::default();
            let mut received = vec![];
            for part in bytes.chunks(cut) {
                decoder.push(part);
                received.extend(all(&mut decoder).expect("good messages"));
            }
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn no_bytes_end_the_program(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            crate::fuzz::nri(&bytes);
        }
    }
}
