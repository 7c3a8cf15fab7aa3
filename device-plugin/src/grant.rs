//! What the plugin makes so that a container can have a device: nodes of its
//! own, or a CDI specification.
//!
//! Both are put in place by a rename, so whoever reads them sees the old or
//! the new one, and both are made again when the host's numbers change. The
//! host's own nodes stay as they are. What is left of a device that is gone is
//! removed: its numbers may be another device's tomorrow.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, major, minor, mknod};
use serde_json::json;

use crate::config::Grant;
use crate::node::Node;

/// Any user: who may have the device is decided by who is given the node.
const MODE: u32 = 0o666;
/// Directories of nodes whose devices come and go; all in them is ours.
const OWN_DIRS: [&str; 4] = ["char", "mdev", "pci", "usb"];
/// How the names of our specifications begin.
const SPEC_PREFIX: &str = "coracle_";

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

/// Makes a device's own nodes, unless they are there and right.
pub(crate) fn place(dir: &Path, nodes: &[Node]) -> Result<(), GrantError> {
    for node in nodes {
        let path = dir.join(node.own());
        make_dir(path.parent().unwrap_or(dir))?;
        if !is_right(&path, node.rdev) {
            make_node(&path, node.rdev).map_err(|source| GrantError::Node { path, source })?;
        }
    }
    Ok(())
}

/// Writes the specification of a resource's devices, unless it is there and
/// says the same.
pub(crate) fn specify(
    dir: &Path,
    resource: &str,
    devices: &[(&str, &[Node])],
) -> Result<(), GrantError> {
    make_dir(dir)?;
    let path = spec_path(dir, resource);
    let text = spec(resource, devices);
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    write_spec(&path, &text).map_err(|source| GrantError::Spec { path, source })
}

fn make_dir(dir: &Path) -> Result<(), GrantError> {
    fs::create_dir_all(dir).map_err(|source| GrantError::Directory {
        path: dir.to_owned(),
        source,
    })
}

/// Removes the nodes of devices and the specifications of resources that are
/// no more. What cannot be removed is tried again the next time.
pub(crate) fn tidy(grant: &Grant, nodes: &BTreeSet<String>, resources: &BTreeSet<&str>) {
    match grant {
        Grant::Node { dir } => {
            for own in OWN_DIRS {
                sweep(dir, own, nodes);
            }
        }
        Grant::Cdi { dir } => {
            let wanted: BTreeSet<PathBuf> = resources
                .iter()
                .map(|resource| spec_path(dir, resource))
                .collect();
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let ours = entry.file_name().to_string_lossy().starts_with(SPEC_PREFIX);
                if ours && !wanted.contains(&entry.path()) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }
}

/// Removes the nodes below a directory that are not wanted, then the
/// directories that are empty.
fn sweep(dir: &Path, below: &str, wanted: &BTreeSet<String>) {
    for entry in fs::read_dir(dir.join(below))
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = format!("{below}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sweep(dir, &path, wanted);
            let _ = fs::remove_dir(entry.path());
        } else if !wanted.contains(&path) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Takes back what must not outlive the plugin: specifications. Nodes stay,
/// because the kubelet hands them to a container that restarts without asking
/// again.
pub(crate) fn withdraw(grant: &Grant, resource: &str) {
    if let Grant::Cdi { dir } = grant {
        // Not there: nothing to take back.
        let _ = fs::remove_file(spec_path(dir, resource));
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

/// Where the specification of a resource is. A domain has no underscore, so no
/// two resources have the same.
pub(crate) fn spec_path(dir: &Path, resource: &str) -> PathBuf {
    dir.join(format!(
        "{SPEC_PREFIX}{}.json",
        resource.replacen('/', "_", 1)
    ))
}

/// The name by which a runtime finds a device.
pub(crate) fn cdi_name(resource: &str, device: &str) -> String {
    format!("{}={device}", cdi_kind(resource))
}

/// A resource's name as CDI wants it: vendor and class begin with a letter.
fn cdi_kind(resource: &str) -> String {
    let lettered = |part: &str| {
        let letter = part.starts_with(|first: char| first.is_ascii_alphabetic());
        if letter {
            part.to_owned()
        } else {
            format!("n{part}")
        }
    };
    let parts: Vec<_> = resource.split('/').map(lettered).collect();
    parts.join("/")
}

/// The CDI specification. The numbers say which device it is, so no path on
/// the host does: the plugin may see the host's devices elsewhere.
fn spec(resource: &str, devices: &[(&str, &[Node])]) -> String {
    let node = |node: &Node| {
        json!({
            "path": node.container(),
            "type": "c",
            "major": major(node.rdev),
            "minor": minor(node.rdev),
            "fileMode": MODE,
            "permissions": "rw",
        })
    };
    let device = |(name, nodes): &(&str, &[Node])| {
        let nodes: Vec<_> = nodes.iter().map(node).collect();
        json!({"name": name, "containerEdits": {"deviceNodes": nodes}})
    };
    let devices: Vec<_> = devices.iter().map(device).collect();
    let spec = json!({
        "cdiVersion": "0.3.0",
        "kind": cdi_kind(resource),
        "devices": devices,
    });
    format!("{spec:#}\n")
}

#[cfg(test)]
mod tests;
