//! Which socket it is that a path leads to.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// A socket file, told from a later one at the same path. File systems reuse
/// inode numbers at once, so the time it was made belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketId {
    device: u64,
    inode: u64,
    made: (i64, i64),
}

impl SocketId {
    /// When it was made, in seconds since 1970.
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of this century are exact"
    )]
    pub(crate) fn made(self) -> f64 {
        self.made.0 as f64 + self.made.1 as f64 / 1e9
    }

    /// The socket at the path, if there is one.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let there = fs::symlink_metadata(path).ok()?;
        there.file_type().is_socket().then(|| Self {
            device: there.dev(),
            inode: there.ino(),
            made: (there.mtime(), there.mtime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_that_was_replaced_is_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.sock");
        assert_eq!(SocketId::of(&path), None);
        let _first = UnixListener::bind(&path).expect("binds");
        let first = SocketId::of(&path).expect("there");
        assert_eq!(SocketId::of(&path), Some(first));
        let other = dir.path().join("b.sock");
        let _second = UnixListener::bind(&other).expect("binds");
        fs::rename(&other, &path).expect("renames");
        assert_ne!(SocketId::of(&path), Some(first));
        fs::remove_file(&path).expect("removes");
        fs::write(&path, "").expect("writes");
        assert_eq!(SocketId::of(&path), None, "a file is no socket");
    }
}
