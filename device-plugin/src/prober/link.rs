//! The plugin's side: listens for a prober, and asks the one that is there.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_api::names::VM_UID;
use coracle_kvm_probe::Level;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::wire::{Outcome, Question, Reply, WireError, printable, read, write};
use crate::check::chain;
use crate::config::Reports;
use crate::session::listen;
use crate::socket::SocketId;
use crate::verdict::Answer;

/// How long a prober may take; its probe ends within two seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How often listening is tried where it fails.
const RETRY: Duration = Duration::from_secs(2);
/// Only the prober's group may look for the socket, and nobody but the plugin
/// may change what is there.
const DIR_MODE: u32 = 0o750;
/// Connecting takes the right to write.
const SOCKET_MODE: u32 = 0o660;
/// The prober's group.
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const GROUP: u32 = VM_UID as u32;

/// Why the plugin cannot listen.
#[derive(Debug, thiserror::Error)]
enum ListenError {
    #[error("failed to make {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "failed to give {} to the group {GROUP} (the plugin must belong to it, or have CAP_CHOWN)",
        path.display()
    )]
    Group { path: PathBuf, source: io::Error },
    #[error("failed to listen on {}", path.display())]
    Listen { path: PathBuf, source: io::Error },
}

/// Why a prober was disconnected.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("it did not answer within {} s", ANSWER_LIMIT.as_secs())]
    Silent,
    #[error("it answered question {found} instead of {asked}")]
    OtherQuestion { asked: u64, found: u64 },
    #[error("it probed at level {found} instead of {asked}")]
    OtherLevel { asked: Level, found: Level },
}

/// The socket, and the prober that is connected to it.
pub(crate) struct Link {
    reports: Reports,
    listener: Option<(UnixListener, SocketId)>,
    prober: Option<UnixStream>,
    asked: u64,
    /// Why it does not listen, as the log has it.
    said: Option<String>,
}

impl Link {
    pub(crate) fn new(reports: Reports) -> Self {
        Self {
            reports,
            listener: None,
            prober: None,
            asked: 0,
            said: None,
        }
    }

    /// Asks the prober for a probe.
    pub(crate) async fn ask(&mut self, level: Level) -> Answer {
        self.admit().await;
        let Some(prober) = &mut self.prober else {
            return Answer::Absent;
        };
        self.asked += 1;
        let question = Question {
            id: self.asked,
            level,
        };
        let asked = timeout(ANSWER_LIMIT, exchange(prober, question)).await;
        match asked.unwrap_or(Err(AskError::Silent)) {
            Ok(Outcome::Passed { .. }) => Answer::Passed,
            Ok(Outcome::Failed { reason }) => Answer::Failed {
                reason: printable(&reason),
            },
            Err(error) => {
                warn!(why = chain(&error), "the prober is disconnected");
                self.prober = None;
                Answer::Absent
            }
        }
    }

    /// Waits until a prober comes or goes.
    ///
    /// # Cancellation
    /// Loses nothing.
    pub(crate) async fn news(&mut self) {
        let Some((listener, _)) = &self.listener else {
            return sleep(RETRY).await;
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((prober, _)) => self.welcome(prober),
                Err(error) => {
                    warn!(%error, "no prober can connect");
                    sleep(RETRY).await;
                }
            },
            () = leaves(self.prober.as_ref()) => {
                info!("the prober is gone");
                self.prober = None;
            }
        }
    }

    /// Listens, unless it does so already.
    pub(crate) async fn listen(&mut self) {
        let path = self.reports.socket();
        if let Some((_, id)) = &self.listener
            && SocketId::of(&path) == Some(*id)
        {
            return;
        }
        self.listener = None;
        match open(&self.reports.dir, &path).await {
            Ok(listener) => {
                self.listener = Some(listener);
                self.said = None;
            }
            Err(error) => {
                let error = chain(&error);
                if self.said.as_ref() != Some(&error) {
                    warn!(error, "no prober can report");
                }
                self.said = Some(error);
            }
        }
    }

    /// Takes in who has connected meanwhile.
    async fn admit(&mut self) {
        let Some((listener, _)) = &self.listener else {
            return;
        };
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted.ok(),
            () = std::future::ready(()) => None,
        };
        if let Some((prober, _)) = accepted {
            self.welcome(prober);
        }
    }

    /// The last one to come is the one to ask: of an earlier one nobody knows
    /// whether it still answers.
    fn welcome(&mut self, prober: UnixStream) {
        debug!(again = self.prober.is_some(), "a prober has connected");
        self.prober = Some(prober);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let path = self.reports.socket();
        if let Some((_, id)) = &self.listener
            && SocketId::of(&path) == Some(*id)
        {
            let _ = fs::remove_file(path);
        }
    }
}

async fn exchange(prober: &mut UnixStream, question: Question) -> Result<Outcome, AskError> {
    write(prober, &question).await?;
    let Reply { id, outcome } = read(prober).await?;
    if id != question.id {
        return Err(AskError::OtherQuestion {
            asked: question.id,
            found: id,
        });
    }
    match outcome {
        Outcome::Passed { level } if level != question.level => Err(AskError::OtherLevel {
            asked: question.level,
            found: level,
        }),
        outcome => Ok(outcome),
    }
}

/// Waits until the prober hangs up, or speaks unasked, which ends it too.
async fn leaves(prober: Option<&UnixStream>) {
    let Some(prober) = prober else {
        return std::future::pending().await;
    };
    loop {
        if prober.readable().await.is_err() {
            return;
        }
        match prober.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

/// Listens on the socket; only the prober's group can connect.
async fn open(dir: &Path, path: &Path) -> Result<(UnixListener, SocketId), ListenError> {
    fs::create_dir_all(dir).map_err(|source| ListenError::Directory {
        path: dir.to_owned(),
        source,
    })?;
    hand_over(dir, DIR_MODE)?;
    let failed = |source| ListenError::Listen {
        path: path.to_owned(),
        source,
    };
    let listener = listen(path).await.map_err(failed)?;
    hand_over(path, SOCKET_MODE)?;
    let id = SocketId::of(path)
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::NotFound, "it is gone again")))?;
    Ok((listener, id))
}

/// Lets the prober's group have what the mode says.
fn hand_over(path: &Path, mode: u32) -> Result<(), ListenError> {
    let failed = |source| ListenError::Group {
        path: path.to_owned(),
        source,
    };
    let there = fs::symlink_metadata(path).map_err(failed)?;
    if there.gid() != GROUP {
        chown(path, None, Some(GROUP)).map_err(failed)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}
