//! What the plugin makes so that a container can have the device: a node of
//! its own, or a CDI specification.
//!
//! Both are put in place by a rename, so whoever reads them sees the old or
//! the new one, and both are made again when the host's numbers change. The
//! host's own node stays as it is.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, major, minor, mknod};
use serde_json::json;

use crate::config::{CONTAINER_PATH, Grant};
use crate::resource::Resource;

/// Any user: who may have the device is decided by who is given the node.
const MODE: u32 = 0o666;

/// Why the device cannot be passed on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The directory cannot be made.
    #[error("failed to make {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The node cannot be made.
    #[error("failed to make the device node {} (the plugin needs CAP_MKNOD)", path.display())]
    Node {
        /// The node.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The specification cannot be written.
    #[error("failed to write the CDI specification {}", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Makes what is to be made, unless it is there and right.
pub(crate) fn ensure(grant: &Grant, rdev: u64) -> Result<(), GrantError> {
    let dir = grant.dir();
    fs::create_dir_all(dir).map_err(|source| GrantError::Directory {
        path: dir.to_owned(),
        source,
    })?;
    let path = grant.path();
    match grant {
        Grant::Node { .. } if is_right(&path, rdev) => Ok(()),
        Grant::Node { .. } => {
            make_node(&path, rdev).map_err(|source| GrantError::Node { path, source })
        }
        Grant::Cdi { .. } => {
            let text = spec(rdev);
            if fs::read_to_string(&path).is_ok_and(|there| there == text) {
                return Ok(());
            }
            write_spec(&path, &text).map_err(|source| GrantError::Spec { path, source })
        }
    }
}

/// Takes back what must not outlive the plugin: the specification. A node
/// stays, because the kubelet hands it to a container that restarts without
/// asking again.
pub(crate) fn withdraw(grant: &Grant) {
    if let Grant::Cdi { .. } = grant {
        // Not there: nothing to take back.
        let _ = fs::remove_file(grant.path());
    }
}

/// Whether the plugin's node leads to the device and is open to all.
pub(crate) fn is_right(path: &Path, rdev: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| {
        there.file_type().is_char_device() && there.rdev() == rdev && there.mode() & 0o7777 == MODE
    })
}

fn make_node(path: &Path, rdev: u64) -> io::Result<()> {
    let new = beside(path);
    // Left behind by a plugin that was killed between these lines.
    remove_if_there(&new)?;
    mknod(&new, SFlag::S_IFCHR, Mode::from_bits_truncate(MODE), rdev)?;
    // The process's umask has no say.
    fs::set_permissions(&new, fs::Permissions::from_mode(MODE))?;
    fs::rename(&new, path)
}

fn write_spec(path: &Path, text: &str) -> io::Result<()> {
    let new = beside(path);
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

/// A name that neither a container runtime nor anyone else looks at.
fn beside(path: &Path) -> PathBuf {
    let name = path
        .file_name()
        .expect("what is granted is a file")
        .to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The CDI specification. The numbers say which device it is, so no path on
/// the host does: the plugin may see the host's devices elsewhere.
fn spec(rdev: u64) -> String {
    let spec = json!({
        "cdiVersion": "0.3.0",
        "kind": Resource::Kvm.name(),
        "devices": [{
            "name": "kvm",
            "containerEdits": {
                "deviceNodes": [{
                    "path": CONTAINER_PATH,
                    "type": "c",
                    "major": major(rdev),
                    "minor": minor(rdev),
                    "fileMode": MODE,
                    "permissions": "rw",
                }],
            },
        }],
    });
    format!("{spec:#}\n")
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::makedev;

    use super::*;

    #[test]
    fn a_specification_follows_the_numbers_and_is_withdrawn() {
        let dir = tempfile::tempdir().expect("a directory");
        let grant = Grant::Cdi {
            dir: dir.path().join("cdi"),
        };
        for number in [232, 233] {
            ensure(&grant, makedev(10, number)).expect("writes");
            let text = fs::read_to_string(grant.path()).expect("is there");
            let spec: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(spec["kind"], "coracle.dev/kvm");
            let node = &spec["devices"][0]["containerEdits"]["deviceNodes"][0];
            assert_eq!(node["minor"], number);
            assert_eq!(node["major"], 10);
            assert_eq!(node["fileMode"], 0o666);
            assert_eq!(fs::read_dir(grant.dir()).expect("reads").count(), 1);
        }
        withdraw(&grant);
        assert!(!grant.path().exists());
        withdraw(&grant);
    }

    #[test]
    fn a_node_is_made_again_when_it_is_wrong() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root makes device nodes");
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let grant = Grant::Node {
            dir: dir.path().join("dev"),
        };
        let (path, rdev) = (grant.path(), makedev(1, 3));
        ensure(&grant, makedev(1, 5)).expect("makes the node of another device");
        assert!(!is_right(&path, rdev));
        ensure(&grant, rdev).expect("makes it again");
        assert!(is_right(&path, rdev));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmods");
        ensure(&grant, rdev).expect("opens it again");
        assert!(is_right(&path, rdev));
        withdraw(&grant);
        assert!(is_right(&path, rdev), "containers that restart need it");
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("file"), "").expect("writes");
        let grant = Grant::Node {
            dir: dir.path().join("file"),
        };
        let error = ensure(&grant, 0).expect_err("a file");
        assert!(matches!(error, GrantError::Directory { .. }), "{error}");

        let grant = Grant::Cdi {
            dir: dir.path().to_owned(),
        };
        fs::create_dir(grant.path()).expect("in the way");
        let error = ensure(&grant, 0).expect_err("a directory");
        assert!(matches!(error, GrantError::Spec { .. }), "{error}");

        let grant = Grant::Node {
            dir: dir.path().to_owned(),
        };
        fs::create_dir(grant.path()).expect("in the way");
        let error = ensure(&grant, 0).expect_err("a directory");
        assert!(matches!(error, GrantError::Node { .. }), "{error}");
    }
}
