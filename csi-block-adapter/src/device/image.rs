//! Opening a disk image in a mounted container image: read as it is, or under
//! an overlay of the VM's own.
//!
//! The format is told by the image's first bytes. That is safe here and
//! nowhere else: the container image is mounted read-only, so no guest has a
//! say in them. What the guest writes goes to a qcow2 file that this module
//! makes, and that is opened as one whatever is in it.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use serde::Serialize;

use super::{
    Mode,
    error::{Access, DeviceError, NodeKind},
    facts::DeviceFacts,
    file, node, overlay,
};
use crate::{
    format::{Compression, foreign_format},
    qcow2::{Header, MAGIC},
};

mod error;

pub use self::error::ImageError;

/// Where disks are in a container image by custom.
const DISKS: &str = "disk";
/// Bytes at an image's start that tell its format.
const HEAD: usize = 4096;
/// How many names of files are told.
const NAMES: usize = 4;
/// The largest disk with an overlay: its first table takes 8 MiB.
const OVERLAY_MAX: u64 = 512 << 40;

/// Where an image is, and what is made of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Where the container image is mounted.
    pub(super) root: &'a str,
    /// The file in it.
    pub(super) path: Option<&'a str>,
    /// Directory for the overlay.
    pub(super) overlay: Option<&'a str>,
    /// Size of the disk, where it is larger than the image.
    pub(super) size_bytes: Option<u64>,
}

/// What is known of a disk in a container image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageFacts {
    /// The image's format.
    pub format: Format,
    /// Path of the overlay; none of a disk that is only read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlay: Option<String>,
    /// Whether there was an overlay of another image, which is gone now.
    pub replaced: bool,
}

/// Format of a disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Format {
    /// The disk's bytes.
    Raw,
    /// qcow2, all in one file.
    Qcow2,
}

/// Opens the image, and its overlay where the guest may write; the file that
/// is returned is the one that the guest's writes go to.
pub(super) fn open(wanted: &Wanted<'_>, mode: Mode) -> Result<(File, DeviceFacts), DeviceError> {
    let name = match wanted.path {
        Some(path) => named(wanted.root, path)?,
        None => only(wanted.root)?,
    };
    let path = format!("{}/{name}", wanted.root);
    let reading = Mode {
        access: Access::Read,
        shareable: false,
        ..mode
    };
    let image = file::hold(&path, reading).map_err(|error| in_image(&name, error))?;
    let (format, need) = look(&name, &path, &image)?;
    let size_bytes = wanted.size_bytes.unwrap_or(need);
    if size_bytes < need {
        let (file, wanted) = (name, size_bytes);
        return Err(ImageError::Smaller { file, wanted, need }.into());
    }
    let mut facts = file::facts(&path, size_bytes, mode.access == Access::Read);
    let mut about = ImageFacts {
        format,
        overlay: None,
        replaced: false,
    };
    let guard = match (mode.access, wanted.overlay) {
        (Access::Read, _) => image,
        (Access::Write, None) => return Err(DeviceError::ReadOnly { path }),
        (Access::Write, Some(_)) if size_bytes > OVERLAY_MAX => {
            let (file, size) = (name, size_bytes);
            return Err(ImageError::Large { file, size }.into());
        }
        (Access::Write, Some(dir)) => {
            let overlay = overlay::open(dir, &image, size_bytes, mode)?;
            about.overlay = Some(overlay.path);
            about.replaced = overlay.replaced;
            overlay.file
        }
    };
    facts.image = Some(about);
    Ok((guard, facts))
}

/// The file that is named. No part of its path is followed as a symbolic link:
/// it would lead out of the container image.
fn named(root: &str, path: &str) -> Result<String, DeviceError> {
    let none = || ImageError::NoFile { file: path.into() };
    let mut at = root.to_owned();
    for part in path.split('/') {
        if matches!(part, "" | "." | "..") {
            return Err(none().into());
        }
        at = format!("{at}/{part}");
        match node::look(&at) {
            Ok(Some(found)) if found.kind == NodeKind::Symlink => {
                return Err(DeviceError::Symlink { path: at });
            }
            Ok(Some(_)) => {}
            Ok(None) => return Err(none().into()),
            Err(DeviceError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotADirectory =>
            {
                return Err(none().into());
            }
            Err(other) => return Err(other),
        }
    }
    Ok(path.to_owned())
}

/// The only file where disks are by custom.
fn only(root: &str) -> Result<String, DeviceError> {
    let directory = format!("{root}/{DISKS}");
    match node::look(&directory)? {
        Some(found) if found.kind == NodeKind::Directory => {}
        Some(found) if found.kind == NodeKind::Symlink => {
            return Err(DeviceError::Symlink { path: directory });
        }
        Some(_) | None => return Err(ImageError::NoDisk.into()),
    }
    let mut names = files(Path::new(&directory)).map_err(|source| DeviceError::Io {
        path: directory,
        doing: "look into",
        source,
    })?;
    names.sort();
    match &names[..] {
        [] => Err(ImageError::NoDisk.into()),
        [name] => Ok(format!("{DISKS}/{name}")),
        _ => {
            names.truncate(NAMES);
            Err(ImageError::Several { names }.into())
        }
    }
}

fn files(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in directory.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// What hinders to open a file, in words for a file that nobody here can
/// change.
fn in_image(file: &str, error: DeviceError) -> DeviceError {
    let file = file.to_owned();
    match error {
        DeviceError::Permission { uid, owner, .. } => {
            ImageError::Permission { file, uid, owner }.into()
        }
        DeviceError::NoFile { .. } => ImageError::NoFile { file }.into(),
        other => other,
    }
}

/// Format and size of the disk in an image.
fn look(name: &str, path: &str, image: &File) -> Result<(Format, u64), DeviceError> {
    let failed = |source| DeviceError::Io {
        path: path.into(),
        doing: "read",
        source,
    };
    let bytes = image.metadata().map_err(failed)?.len();
    if bytes == 0 {
        return Err(ImageError::Empty { file: name.into() }.into());
    }
    let mut head = vec![0; HEAD.min(usize::try_from(bytes).unwrap_or(HEAD))];
    image.read_exact_at(&mut head, 0).map_err(failed)?;
    let (format, size) = format(name, &head, bytes)?;
    if !size.is_multiple_of(u64::from(file::SECTOR)) {
        return Err(DeviceError::Size {
            path: path.into(),
            bytes: size,
        });
    }
    Ok((format, size))
}

/// Format and size of a disk, by the image's first bytes and its length.
fn format(name: &str, head: &[u8], bytes: u64) -> Result<(Format, u64), ImageError> {
    let file = || name.to_owned();
    if let Some(what) = foreign_format(head) {
        return Err(ImageError::Foreign { file: file(), what });
    }
    if let Some(how) = Compression::detect(head) {
        let how = how.name();
        return Err(ImageError::Packed { file: file(), how });
    }
    if !head.starts_with(&MAGIC) {
        return Ok((Format::Raw, bytes));
    }
    match Header::parse(head) {
        Ok(header) => Ok((Format::Qcow2, header.size)),
        Err(source) => Err(ImageError::Qcow2 {
            file: file(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests;
