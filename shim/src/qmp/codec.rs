//! Bytes to messages: QMP is one JSON object per line.
//!
//! The decoder takes bytes in pieces of any size. A line that is no message is
//! an error, and so is one that is too long; after either it goes on with the
//! next line. It never panics and never holds more than [`LINE_MAX`] bytes.

use serde::Deserialize;
use serde_json::Value;

/// The longest line that is accepted. The replies and events that the shim
/// sees are a few hundred bytes; the rest is headroom for events of newer
/// versions of qemu.
pub const LINE_MAX: usize = 64 * 1024;

/// A capacity that the buffer is cut back to, once it is empty.
const KEEP: usize = 4096;

/// A message from qemu.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The first message on a connection.
    Greeting {
        /// qemu's version, as in `7.2.22`.
        version: String,
    },
    /// A command succeeded.
    Return {
        /// The command's id.
        id: u64,
        /// What it returned.
        value: Value,
    },
    /// A command failed.
    Error {
        /// The command's id; missing when qemu could not read the command.
        id: Option<u64>,
        /// qemu's description.
        description: String,
    },
    /// Something happened.
    Event {
        /// The event's name.
        name: String,
        /// Its arguments; null when it has none.
        data: Value,
    },
}

/// Why a line is not a message.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// It is longer than the limit.
    #[error("a line is longer than {LINE_MAX} bytes")]
    TooLong,
    /// It is not JSON.
    #[error("a line is not JSON: {excerpt:?}")]
    Syntax {
        /// The line's first characters.
        excerpt: String,
        /// What serde says.
        source: serde_json::Error,
    },
    /// It is JSON, but none of the protocol's messages.
    #[error("a line is not a QMP message: {excerpt:?}")]
    Shape {
        /// The line's first characters.
        excerpt: String,
    },
}

/// Splits a stream of bytes into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes at the buffer's start that have been given out.
    taken: usize,
    /// Bytes from `taken` on that are known to have no line end.
    scanned: usize,
    /// Whether the rest of a line that was too long is being passed over.
    skipping: bool,
}

impl Decoder {
    /// A decoder for a new connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes as they come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.skipping {
            // The start of an overlong line was reported; drop up to its end.
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                return;
            };
            self.skipping = false;
            self.buffer.extend_from_slice(&bytes[end + 1..]);
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next message, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// The next line is no message. The line is used up; call again.
    pub fn next_message(&mut self) -> Option<Result<Message, CodecError>> {
        loop {
            let rest = &self.buffer[self.taken..];
            let Some(length) = rest[self.scanned..].iter().position(|byte| *byte == b'\n') else {
                return self.out_of_lines();
            };
            let line = self.taken..self.taken + self.scanned + length;
            self.taken = line.end + 1;
            self.scanned = 0;
            if line.len() > LINE_MAX {
                return Some(Err(CodecError::TooLong));
            }
            let line = self.buffer[line].trim_ascii();
            if !line.is_empty() {
                return Some(parse(line));
            }
        }
    }

    /// What there is to say when the buffer holds no whole line.
    fn out_of_lines(&mut self) -> Option<Result<Message, CodecError>> {
        self.scanned = self.buffer.len() - self.taken;
        if self.scanned == 0 {
            self.buffer.clear();
            self.buffer.shrink_to(KEEP);
            self.taken = 0;
            return None;
        }
        if self.scanned <= LINE_MAX {
            return None;
        }
        *self = Self {
            skipping: true,
            ..Self::default()
        };
        Some(Err(CodecError::TooLong))
    }
}

/// The fields of all messages. Which are there tells which message it is.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    qmp: Option<Banner>,
    id: Option<u64>,
    // A `return` of null is a return, which an `Option<Value>` would lose.
    #[serde(default, rename = "return", deserialize_with = "present")]
    value: Option<Value>,
    error: Option<ErrorBody>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct Banner {
    version: BannerVersion,
}

#[derive(Deserialize)]
struct BannerVersion {
    qemu: Triple,
}

#[derive(Deserialize)]
struct Triple {
    major: u32,
    minor: u32,
    micro: u32,
}

#[derive(Deserialize)]
struct ErrorBody {
    desc: String,
}

fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

fn parse(line: &[u8]) -> Result<Message, CodecError> {
    let parsed: Line = match serde_json::from_slice(line) {
        Ok(parsed) => parsed,
        Err(source) if source.is_data() => {
            return Err(CodecError::Shape {
                excerpt: excerpt(line),
            });
        }
        Err(source) => {
            return Err(CodecError::Syntax {
                excerpt: excerpt(line),
                source,
            });
        }
    };
    match parsed {
        Line {
            qmp: Some(Banner {
                version: BannerVersion { qemu },
            }),
            ..
        } => {
            let Triple {
                major,
                minor,
                micro,
            } = qemu;
            Ok(Message::Greeting {
                version: format!("{major}.{minor}.{micro}"),
            })
        }
        Line {
            event: Some(name),
            data,
            ..
        } => Ok(Message::Event { name, data }),
        Line {
            error: Some(ErrorBody { desc }),
            id,
            ..
        } => Ok(Message::Error {
            id,
            description: desc,
        }),
        Line {
            value: Some(value),
            id: Some(id),
            ..
        } => Ok(Message::Return { id, value }),
        _ => Err(CodecError::Shape {
            excerpt: excerpt(line),
        }),
    }
}

/// The start of a line, for a message to a person.
fn excerpt(line: &[u8]) -> String {
    const CHARACTERS: usize = 80;
    String::from_utf8_lossy(&line[..line.len().min(4 * CHARACTERS)])
        .chars()
        .take(CHARACTERS)
        .collect()
}

#[cfg(test)]
mod tests;
