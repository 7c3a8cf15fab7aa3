//! Events in the directories that matter, from one inotify instance: there
//! are few of them on a node, and every kubelet and log reader wants some.
//!
//! An event is a hint to look, never a fact. Everything that is woken here
//! also looks by itself from time to time, so a lost event costs seconds.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How often a directory is looked for that is not there.
const RETRY: Duration = Duration::from_secs(2);

/// Room for some events; the longest has a name of 255 bytes.
const BUFFER: usize = 2048;

/// What is watched in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// A file.
    File(OsString),
    /// Whatever comes or goes.
    Names,
    /// That, and what is written: configuration.
    Contents,
}

/// Something to watch, and whom to wake when something happens to it. It is
/// watched until nobody else has the waker.
pub(crate) struct Watched {
    dir: PathBuf,
    what: What,
    wake: Arc<Notify>,
    watch: Option<WatchDescriptor>,
}

impl Watched {
    pub(crate) fn file(path: &Path, wake: &Arc<Notify>) -> Self {
        let name = path.file_name().unwrap_or_default().to_owned();
        Self::new(path, What::File(name), wake)
    }

    /// The file's directory: a `ConfigMap` is changed by a link beside it.
    pub(crate) fn contents(path: &Path, wake: &Arc<Notify>) -> Self {
        Self::new(path, What::Contents, wake)
    }

    fn new(path: &Path, what: What, wake: &Arc<Notify>) -> Self {
        Self {
            dir: path.parent().unwrap_or_else(|| Path::new("/")).to_owned(),
            what,
            wake: wake.clone(),
            watch: None,
        }
    }

    fn names(dir: &Path, wake: &Arc<Notify>) -> Self {
        Self {
            dir: dir.to_owned(),
            what: What::Names,
            wake: wake.clone(),
            watch: None,
        }
    }
}

/// What to watch, as it becomes known.
pub(crate) struct Wanted {
    /// Files, while somebody waits for them.
    pub(crate) files: mpsc::UnboundedReceiver<Watched>,
    /// Directories where devices come and go, all of them.
    pub(crate) directories: watch::Receiver<BTreeSet<PathBuf>>,
    /// Who wants to know of devices.
    pub(crate) devices: Arc<Notify>,
}

/// Wakes whom it concerns, until it is stopped.
pub(crate) async fn follow(wanted: Wanted, stop: CancellationToken) {
    let opened = Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0_u8; BUFFER]));
    match opened {
        Ok(stream) => {
            let _ = stop.run_until_cancelled(forever(wanted, stream)).await;
        }
        Err(error) => {
            warn!(%error, "no inotify instance (fs.inotify.max_user_instances?); looking from \
                  time to time instead");
            stop.cancelled().await;
        }
    }
}

async fn forever(mut wanted: Wanted, mut stream: EventStream<Vec<u8>>) {
    let mut watched = vec![];
    let mut news = true;
    loop {
        if news {
            news = false;
            let dirs = wanted.directories.borrow_and_update().clone();
            watched
                .retain(|entry: &Watched| entry.what != What::Names || dirs.contains(&entry.dir));
            for dir in dirs {
                if !watched
                    .iter()
                    .any(|entry| entry.what == What::Names && entry.dir == dir)
                {
                    watched.push(Watched::names(&dir, &wanted.devices));
                }
            }
        }
        watched.retain(|entry| Arc::strong_count(&entry.wake) > 1);
        let all_there = add(&mut watched, &stream);
        // With every directory watched there is nothing to retry.
        let limit = if all_there { Duration::MAX } else { RETRY };
        tokio::select! {
            event = stream.next() => match event {
                Some(Ok(event)) => tell(&mut watched, &event.wd, event.mask, event.name.as_deref()),
                Some(Err(error)) => {
                    warn!(%error, "reading inotify events failed");
                    tokio::time::sleep(RETRY).await;
                }
                None => {}
            },
            Some(entry) = wanted.files.recv() => watched.push(entry),
            Ok(()) = wanted.directories.changed() => news = true,
            () = tokio::time::sleep(limit) => {}
        }
    }
}

/// Watches the directories that are not watched yet. Whoever waits for one of
/// them is woken: what happened in it so far is unknown.
fn add(watched: &mut [Watched], stream: &EventStream<Vec<u8>>) -> bool {
    let names = WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::ATTRIB
        | WatchMask::ONLYDIR
        | WatchMask::MASK_ADD;
    let mut all = true;
    for entry in watched.iter_mut().filter(|entry| entry.watch.is_none()) {
        let mask = match entry.what {
            What::File(_) | What::Names => names,
            What::Contents => names | WatchMask::CLOSE_WRITE,
        };
        match stream.watches().add(&entry.dir, mask) {
            Ok(watch) => {
                entry.watch = Some(watch);
                entry.wake.notify_one();
            }
            Err(error) => {
                debug!(dir = %entry.dir.display(), %error, "cannot be watched yet");
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
            } else if !matches!(&entry.what, What::File(file) if name != Some(file)) {
                entry.wake.notify_one();
            }
        }
    }
}
