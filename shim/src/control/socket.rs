//! The listening socket, and the claim to the runtime directory that goes with
//! it: one shim per directory.

use std::{
    fs::{self, File},
    io,
    os::unix::net,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::stat::{Mode, umask},
};
use tokio::net::UnixListener;

/// The socket's name in the runtime directory.
pub const SOCKET_NAME: &str = "shim.sock";

/// Why the control socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The directory is not there or cannot be opened.
    #[error("the runtime directory {} cannot be used", path.display())]
    Directory {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another shim has it.
    #[error(
        "another coracle-shim runs a VM in {}: `coracle-shim delete` ends that one, \
         --run-dir names another place",
        path.display()
    )]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("the control socket {} cannot be made", path.display())]
    Bind {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The listening socket; its file goes when this does.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: UnixListener,
    path: PathBuf,
    /// Held as long as the shim lives, and given up by the kernel when it dies.
    _claim: Flock<File>,
}

/// Claims the directory, which is made if need be, and listens in it. What a
/// shim that was killed has left behind is cleared away; the socket of one
/// that lives is not touched.
///
/// # Errors
/// See [`SocketError`].
pub fn listen(directory: &Path) -> Result<Listener, SocketError> {
    let unusable = |source| SocketError::Directory {
        path: directory.to_owned(),
        source,
    };
    fs::create_dir_all(directory).map_err(unusable)?;
    let opened = File::open(directory).map_err(unusable)?;
    let claim =
        Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            Errno::EWOULDBLOCK => SocketError::Taken {
                path: directory.to_owned(),
            },
            error => unusable(error.into()),
        })?;
    let path = directory.join(SOCKET_NAME);
    match bind(&path) {
        Ok(socket) => Ok(Listener {
            socket,
            path,
            _claim: claim,
        }),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(SocketError::Taken {
            path: directory.to_owned(),
        }),
        Err(source) => Err(SocketError::Bind { path, source }),
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if path.try_exists()? {
        if net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        fs::remove_file(path)?;
    }
    // The mode is there from the first moment on. Nothing else makes files
    // meanwhile: there is one thread.
    let before = umask(Mode::S_IRWXG | Mode::S_IRWXO | Mode::S_IXUSR);
    let socket = UnixListener::bind(path);
    umask(before);
    socket
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Left behind, it would be cleared away by the next shim.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn one_shim_per_directory_and_a_dead_ones_socket_is_replaced() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join(SOCKET_NAME);
        // A socket without listener, as a killed shim leaves it.
        drop(net::UnixListener::bind(&path).expect("bind"));
        assert!(path.exists());

        let listener = listen(directory.path()).expect("replaces it");
        let mode = fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            listen(directory.path()),
            Err(SocketError::Taken { .. })
        ));
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_somebody_listens_on_is_left_alone() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join(SOCKET_NAME);
        let _other = net::UnixListener::bind(&path).expect("bind");
        assert!(matches!(
            listen(directory.path()),
            Err(SocketError::Taken { .. })
        ));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_made_is_named() {
        let error = listen(Path::new("/proc/coracle")).expect_err("cannot be made");
        assert!(matches!(error, SocketError::Directory { .. }), "{error}");
    }
}
