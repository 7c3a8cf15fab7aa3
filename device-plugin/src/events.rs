//! Events in the directories that matter, from one inotify instance: there
//! are few of them on a node, and every kubelet and log reader wants some.
//!
//! An event is a hint to look, never a fact. Everything that is woken here
//! also looks by itself from time to time, so a lost event costs seconds.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};
use tokio::sync::Notify;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How often a directory is looked for that is not there.
const RETRY: Duration = Duration::from_secs(2);

/// Room for some events; the longest has a name of 255 bytes.
const BUFFER: usize = 2048;

/// A file to watch, and whom to wake when something happens to it.
pub(crate) struct Watched {
    path: PathBuf,
    wake: Arc<Notify>,
    watch: Option<WatchDescriptor>,
}

impl Watched {
    pub(crate) fn new(path: PathBuf, wake: &Arc<Notify>) -> Self {
        Self {
            path,
            wake: wake.clone(),
            watch: None,
        }
    }

    fn dir(&self) -> &Path {
        self.path.parent().unwrap_or_else(|| Path::new("/"))
    }
}

/// Wakes whom it concerns, until it is stopped.
pub(crate) async fn follow(mut watched: Vec<Watched>, stop: CancellationToken) {
    let opened = Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0_u8; BUFFER]));
    match opened {
        Ok(stream) => {
            let _ = stop
                .run_until_cancelled(forever(&mut watched, stream))
                .await;
        }
        Err(error) => {
            warn!(%error, "no inotify instance (fs.inotify.max_user_instances?); looking from \
                  time to time instead");
            stop.cancelled().await;
        }
    }
}

async fn forever(watched: &mut [Watched], mut stream: EventStream<Vec<u8>>) {
    loop {
        let all_there = add(watched, &stream);
        // With every directory watched there is nothing to retry.
        let limit = if all_there { Duration::MAX } else { RETRY };
        match tokio::time::timeout(limit, stream.next()).await {
            Ok(Some(Ok(event))) => {
                tell(watched, &event.wd, event.mask, event.name.as_deref());
            }
            Ok(Some(Err(error))) => {
                warn!(%error, "reading inotify events failed");
                tokio::time::sleep(RETRY).await;
            }
            Ok(None) | Err(_) => {}
        }
    }
}

/// Watches the directories that are not watched yet. Whoever waits for one of
/// them is woken: what happened in it so far is unknown.
fn add(watched: &mut [Watched], stream: &EventStream<Vec<u8>>) -> bool {
    let mask = WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::ATTRIB
        | WatchMask::ONLYDIR;
    let mut all = true;
    for entry in watched.iter_mut().filter(|entry| entry.watch.is_none()) {
        match stream.watches().add(entry.dir(), mask) {
            Ok(watch) => {
                entry.watch = Some(watch);
                entry.wake.notify_one();
            }
            Err(error) => {
                debug!(dir = %entry.dir().display(), %error, "cannot be watched yet");
                all = false;
            }
        }
    }
    all
}

fn tell(watched: &mut [Watched], watch: &WatchDescriptor, mask: EventMask, name: Option<&OsStr>) {
    for entry in watched {
        if mask.contains(EventMask::Q_OVERFLOW) {
            entry.wake.notify_one();
        } else if entry.watch.as_ref() == Some(watch) {
            if mask.contains(EventMask::IGNORED) {
                // The directory is gone.
                entry.watch = None;
                entry.wake.notify_one();
            } else if name == entry.path.file_name() {
                entry.wake.notify_one();
            }
        }
    }
}
