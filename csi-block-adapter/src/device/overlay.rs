//! The overlay of a disk image that is not written to: a qcow2 file in a
//! directory that lasts as long as the pod.
//!
//! An overlay is of use only with the image that it was made over. A container
//! that starts again in the same pod can find another image, where a tag has
//! moved, so the overlay's name has the image's identity in it: its inode, and
//! when that last changed, which is when the node unpacked it. An overlay of
//! another image is removed, and that is told.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
};

use super::{Mode, error::DeviceError, file, node};
use crate::qcow2::{Compressor, Writer};

/// How the names of overlays begin.
const PREFIX: &str = "overlay-";
/// An overlay that is not complete.
const PARTIAL: &str = "new";

/// An overlay that is open, and held.
pub(super) struct Overlay {
    pub(super) file: File,
    pub(super) path: String,
    /// Whether one of another image was removed.
    pub(super) replaced: bool,
}

/// Opens the overlay of `image`, for a disk of that size; makes it when it is
/// not there.
pub(super) fn open(
    directory: &str,
    image: &File,
    size_bytes: u64,
    mode: Mode,
) -> Result<Overlay, DeviceError> {
    let failed = |doing| {
        move |source| DeviceError::Io {
            path: directory.into(),
            doing,
            source,
        }
    };
    let identity = identity(image).map_err(failed("name the overlay in"))?;
    let path = format!("{directory}/{PREFIX}{identity}.qcow2");
    let mut replaced = false;
    if node::look(&path)?.is_none() {
        replaced = remove_all(directory).map_err(failed("clear"))?;
        make(directory, &path, size_bytes).map_err(failed("make the overlay in"))?;
    }
    Ok(Overlay {
        file: file::hold(&path, mode)?,
        path,
        replaced,
    })
}

fn identity(image: &File) -> io::Result<String> {
    let about = image.metadata()?;
    Ok(format!(
        "{:x}-{:x}.{:09}-{:x}",
        about.ino(),
        about.ctime(),
        about.ctime_nsec(),
        about.len()
    ))
}

/// Removes overlays of other images; whether there were any.
fn remove_all(directory: &str) -> io::Result<bool> {
    let mut found = false;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            fs::remove_file(entry.path())?;
            found = true;
        }
    }
    Ok(found)
}

/// Makes an empty qcow2 image, which has its name only when it is complete and
/// on stable storage. qemu is told what is under it; the file does not say.
fn make(directory: &str, path: &str, size_bytes: u64) -> io::Result<()> {
    let partial = format!("{directory}/{PARTIAL}");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o660)
        .open(&partial)?;
    Writer::new(&file, size_bytes, Compressor::Zlib)?.finish()?;
    file.sync_all()?;
    fs::rename(partial, path)
}
