//! What plugin and prober say to each other, and how a line is read from a
//! peer that is not trusted.

use std::io;

use coracle_kvm_probe::Level;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest line, in bytes.
pub(super) const LINE_LIMIT: usize = 4096;
/// The longest reason, in characters; four bytes each still fit a line.
const REASON_LIMIT: usize = 800;

/// Asks for a probe. Later versions may say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Question {
    /// Comes back with the answer.
    pub(super) id: u64,
    /// How far the probe is to go.
    pub(super) level: Level,
}

/// How the probe went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    /// That of the question.
    pub(super) id: u64,
    pub(super) outcome: Outcome,
}

/// How the probe went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Outcome {
    /// A guest ran.
    Passed {
        /// How far the probe went.
        level: Level,
    },
    /// None did.
    Failed {
        /// Why, for people.
        reason: String,
    },
}

/// Why a peer was not understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the connection failed")]
    Connection { source: io::Error },
    #[error("the peer is gone")]
    Gone,
    #[error("the peer said more than one line")]
    Chatter,
    #[error("the peer's line is longer than {LINE_LIMIT} bytes")]
    TooLong,
    #[error("the peer's line is not what it should be")]
    Malformed { source: serde_json::Error },
}

/// Reads one line and nothing after it.
///
/// # Cancellation
/// A dropped call has lost what it read: the connection is of no use then.
pub(super) async fn read<T: DeserializeOwned>(
    peer: &mut (impl AsyncRead + Unpin),
) -> Result<T, WireError> {
    let mut line = [0; LINE_LIMIT];
    let mut length = 0;
    loop {
        let room = &mut line[length..];
        if room.is_empty() {
            return Err(WireError::TooLong);
        }
        let read = peer
            .read(room)
            .await
            .map_err(|source| WireError::Connection { source })?;
        if read == 0 {
            return Err(WireError::Gone);
        }
        let news = &room[..read];
        match news.iter().position(|byte| *byte == b'\n') {
            None => length += read,
            Some(end) if end + 1 == read => {
                return serde_json::from_slice(&line[..length + end])
                    .map_err(|source| WireError::Malformed { source });
            }
            Some(_) => return Err(WireError::Chatter),
        }
    }
}

/// Writes one line.
pub(super) async fn write(
    peer: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> Result<(), WireError> {
    let mut line = serde_json::to_vec(message).expect("numbers and texts serialize");
    line.push(b'\n');
    peer.write_all(&line)
        .await
        .map_err(|source| WireError::Connection { source })
}

/// A reason that fits a line of a log: no control characters, and not long.
pub(super) fn printable(reason: &str) -> String {
    reason
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(REASON_LIMIT)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn heard(said: &[u8]) -> Result<Reply, WireError> {
        read(&mut &said[..]).await
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        for outcome in [
            Outcome::Passed {
                level: Level::Kernel,
            },
            Outcome::Failed {
                reason: printable(&"\u{10ffff}".repeat(5000)),
            },
        ] {
            let reply = Reply { id: 7, outcome };
            let mut line = vec![];
            write(&mut line, &reply).await.expect("writes");
            assert!(line.len() <= LINE_LIMIT, "{}", line.len());
            assert_eq!(heard(&line).await.expect("reads"), reply);
        }
    }

    #[tokio::test]
    async fn what_is_not_a_reply_is_refused() {
        for malformed in [
            "\n",
            "7\n",
            "{}\n",
            "{\"id\":1}\n",
            "{\"id\":1,\"outcome\":{}}\n",
            "{\"id\":1,\"outcome\":\"passed\"}\n",
            "{\"id\":1,\"outcome\":{\"passed\":{}}}\n",
            "{\"id\":1,\"outcome\":{\"passed\":{\"level\":\"boot\"}}}\n",
            "{\"id\":-1,\"outcome\":{\"passed\":{\"level\":\"run\"}}}\n",
            "{\"id\":1,\"outcome\":{\"passed\":{\"level\":\"run\",\"x\":1}}}\n",
            "{\"id\":1,\"outcome\":{\"passed\":{\"level\":\"run\"}},\"x\":1}\n",
            "{\"id\":1,\"outcome\":{\"failed\":{\"reason\":7}}}\n",
            "\u{fffd}\n",
        ] {
            let error = heard(malformed.as_bytes()).await.expect_err(malformed);
            assert!(matches!(error, WireError::Malformed { .. }), "{malformed}");
        }
        let endless = vec![b' '; 2 * LINE_LIMIT];
        let error = heard(&endless).await.expect_err("too long");
        assert!(matches!(error, WireError::TooLong), "{error}");
        let error = heard(b"{\"id\":1").await.expect_err("ends early");
        assert!(matches!(error, WireError::Gone), "{error}");
        let error = heard(b"{}\n{}").await.expect_err("two lines");
        assert!(matches!(error, WireError::Chatter), "{error}");
    }

    #[test]
    fn a_reason_cannot_forge_lines_of_a_log() {
        assert_eq!(
            printable("slow\n2026 INFO \u{1b}[32mall is well"),
            "slow 2026 INFO  [32mall is well"
        );
        assert_eq!(printable(&"x".repeat(9000)).len(), REASON_LIMIT);
    }
}
