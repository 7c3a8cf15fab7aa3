//! The wanted state, which the pod's annotation puts into a file.
//!
//! The kubelet's downwardAPI volume replaces all its files at once by swapping
//! the symlink `..data`, so it is the directory that is watched. Only a change
//! of what the file says counts: a `pause` by hand is not undone by a file
//! that says what it always said. A file that is missing or empty says
//! `Running`, like a pod without the annotation.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use coracle_api::{names, types::DesiredState};
use inotify::{Inotify, WatchMask};
use tokio::net::unix::pipe;
use tracing::warn;

/// How often the file is read where it cannot be watched. All VMs of a node
/// run as one user, and by default the kernel gives a user 128 watchers.
const POLL: Duration = Duration::from_secs(5);

/// The file with the wanted state.
#[derive(Debug)]
pub struct DesiredFile {
    path: PathBuf,
    /// The inotify descriptor. Tokio's type is named after pipes and does for
    /// all that can be waited for and read.
    watch: Option<pipe::Receiver>,
    wanted: DesiredState,
}

impl DesiredFile {
    /// Reads the file in `directory` and watches it from now on.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        // Watched before it is read, so that no change falls between.
        let watch = watch(directory)
            .inspect_err(|error| {
                warn!(%error, every = ?POLL, "the wanted state cannot be watched and is polled");
            })
            .ok();
        let path = directory.join(names::DESIRED_FILE);
        let wanted = read(&path).unwrap_or_default();
        Self {
            path,
            watch,
            wanted,
        }
    }

    /// What the file said last.
    #[must_use]
    pub fn wanted(&self) -> DesiredState {
        self.wanted
    }

    /// Waits until the file says something else.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub async fn changed(&mut self) -> DesiredState {
        loop {
            if let Err(error) = self.touched().await {
                warn!(%error, every = ?POLL, "the wanted state cannot be watched and is polled");
                self.watch = None;
            }
            match read(&self.path) {
                Some(wanted) if wanted != self.wanted => {
                    self.wanted = wanted;
                    return wanted;
                }
                Some(_) | None => {}
            }
        }
    }

    /// Waits until something happens in the directory.
    async fn touched(&self) -> io::Result<()> {
        let Some(watch) = &self.watch else {
            tokio::time::sleep(POLL).await;
            return Ok(());
        };
        watch.readable().await?;
        // What happened does not matter, the file is read in any case.
        let mut events = [0; 1024];
        loop {
            match watch.try_read(&mut events) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

fn watch(directory: &Path) -> io::Result<pipe::Receiver> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::DELETE;
    inotify.watches().add(directory, mask)?;
    pipe::Receiver::from_owned_fd_unchecked(inotify.into())
}

/// What the file says; `None` when that makes no sense.
fn read(path: &Path) -> Option<DesiredState> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(64).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(DesiredState::Running);
        }
        Err(error) => {
            warn!(%error, path = %path.display(), "the wanted state cannot be read");
            return None;
        }
    }
    match text.trim() {
        "" | "Running" => Some(DesiredState::Running),
        "Paused" => Some(DesiredState::Paused),
        other => {
            warn!(
                found = other,
                "the annotation {} is neither Running nor Paused and is ignored",
                names::ANNOTATION_DESIRED
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// What the kubelet's atomic writer does.
    fn publish(directory: &Path, generation: u32, text: &str) {
        let name = format!("..{generation}");
        fs::create_dir(directory.join(&name)).expect("mkdir");
        fs::write(directory.join(&name).join("desired"), text).expect("write");
        symlink(&name, directory.join("..data_tmp")).expect("symlink");
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).expect("rename");
    }

    #[tokio::test]
    async fn a_swapped_volume_is_seen_and_a_repetition_is_not_news() {
        let directory = tempfile::tempdir().expect("tempdir");
        publish(directory.path(), 1, "Running");
        symlink("..data/desired", directory.path().join("desired")).expect("symlink");
        let mut file = DesiredFile::new(directory.path());
        assert!(file.watch.is_some());
        assert_eq!(file.wanted(), DesiredState::Running);
        publish(directory.path(), 2, "Running\n");
        publish(directory.path(), 3, "nonsense");
        publish(directory.path(), 4, "Paused\n");
        assert_eq!(file.changed().await, DesiredState::Paused);
        fs::remove_file(directory.path().join("desired")).expect("remove");
        assert_eq!(file.changed().await, DesiredState::Running);
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_means_running() {
        let file = DesiredFile::new(Path::new("/nonexistent"));
        assert_eq!(file.wanted(), DesiredState::Running);
    }
}
