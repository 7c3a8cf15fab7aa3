//! One `coracle-shim console` in the pod, from its start to its end.

use std::pin::pin;
use std::time::Duration;

use coracle_api::names::CONTAINER;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::keys::{self, ESCAPE, Keys};
use crate::console::{Replay, SHIM, Shown, show};
use crate::kubectl::connect::Cluster;
use crate::kubectl::error::{Doing, PluginError};

/// How long the shim may take to end after the user has left.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long the shim may take to say whether it listens.
const ANSWER: Duration = Duration::from_secs(10);

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The user left.
    Left,
    /// The VM ended, or the connection.
    Ended,
}

/// A session.
pub(super) struct Session {
    process: AttachedProcess,
    terminal: bool,
    replay: Replay,
    /// What was shown last.
    pub(super) shown: Shown,
}

/// Whether the shim in the pod answers.
pub(super) async fn listens(cluster: &Cluster, pod: &str) -> bool {
    let parameters = AttachParams::default().container(CONTAINER).stderr(false);
    let ask = async {
        let command = [SHIM, "probe", "--created"];
        let mut process = cluster.pods().exec(pod, command, &parameters).await.ok()?;
        let status = process.take_status()?.await?;
        Some(status.status.as_deref() == Some("Success"))
    };
    let answer = tokio::time::timeout(ANSWER, ask).await;
    matches!(answer, Ok(Some(true)))
}

impl Session {
    /// Starts it. What was shown of the same container before is not shown
    /// again.
    ///
    /// # Errors
    /// When the API server does not let it through.
    pub(super) async fn open(
        cluster: &Cluster,
        pod: &str,
        terminal: bool,
        shown: Shown,
    ) -> Result<Self, PluginError> {
        let parameters = AttachParams::default()
            .container(CONTAINER)
            .stdin(true)
            .stdout(true)
            // A terminal has one output.
            .stderr(!terminal)
            .tty(terminal);
        let doing = Doing::new("create", "pods/exec")
            .within(&cluster.namespace)
            .on(pod);
        let process = cluster
            .pods()
            .exec(pod, [SHIM, "console"], &parameters)
            .await;
        Ok(Self {
            process: process.map_err(|error| doing.failed(error))?,
            terminal,
            replay: Replay::after(shown.tail()),
            shown,
        })
    }

    /// Moves what is typed there and what is shown here, until one of them
    /// ends or `stop` does.
    pub(super) async fn pump(&mut self, keys: &mut Keys, stop: impl Future<Output = ()>) -> End {
        let (Some(mut input), Some(mut output)) = (self.process.stdin(), self.process.stdout())
        else {
            return End::Ended;
        };
        let mut stop = pin!(stop);
        let mut typing = Some(&mut input);
        let mut pending: Vec<u8> = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        loop {
            tokio::select! {
                read = output.read(&mut buffer) => match read {
                    Ok(length @ 1..) => self.show(&buffer[..length]),
                    Ok(_) | Err(_) => return End::Ended,
                },
                () = &mut stop => break,
                written = write(typing.as_deref_mut(), &pending), if !pending.is_empty() => {
                    match written {
                        Ok(length) => drop(pending.drain(..length)),
                        Err(_) => return End::Ended,
                    }
                }
                typed = keys.next(), if pending.is_empty() && typing.is_some() => match typed {
                    Some(typed) if self.terminal && keys::escape(&typed).is_some() => {
                        pending.extend_from_slice(&typed[..keys::escape(&typed).unwrap_or(0)]);
                        break;
                    }
                    Some(typed) => pending = typed,
                    None if self.terminal => break,
                    None => {
                        if let Some(input) = typing.take() {
                            let _ = input.shutdown().await;
                        }
                    }
                },
            }
        }
        // The shim ends its side when it sees the key; a process that nobody
        // listens to would stay in the pod otherwise.
        if self.terminal {
            pending.push(ESCAPE);
        }
        let goodbye = goodbye(&mut input, &pending, &mut output);
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        End::Left
    }

    fn show(&mut self, bytes: &[u8]) {
        let new = self.replay.new_bytes(bytes);
        self.shown.add(&new);
        show(&new);
    }
}

async fn write(
    input: Option<&mut (impl AsyncWrite + Unpin)>,
    bytes: &[u8],
) -> std::io::Result<usize> {
    match input {
        Some(input) => input.write(bytes).await,
        // Typed before the input ended.
        None => Ok(bytes.len()),
    }
}

/// Says goodbye and returns when the other side has ended.
async fn goodbye(
    input: &mut (impl AsyncWrite + Unpin),
    last: &[u8],
    output: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<()> {
    input.write_all(last).await?;
    input.shutdown().await?;
    tokio::io::copy(output, &mut tokio::io::sink()).await?;
    Ok(())
}
