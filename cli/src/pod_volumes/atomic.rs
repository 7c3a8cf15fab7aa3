//! The kubelet's atomic writer: the files of a volume change all at once.
//!
//! ```text
//! volume/machine.json      -> ..data/machine.json     made once
//! volume/..data            -> ..payload.x1Y2z3        renamed over: the change
//! volume/..payload.x1Y2z3/machine.json                the bytes
//! ```
//! A reader that goes through `..data` sees the old files or the new ones,
//! never some of each; who watches sees one rename.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::mkdtemp;

use super::payload::Payload;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";
/// Names that begin with two dots are hidden from whoever lists the volume.
const PAYLOAD: &str = "..payload.";

/// Writes the files, unless they are there already. `finish` is given the new
/// directory before anyone sees it.
pub(super) fn write(
    dir: &Path,
    payload: &Payload,
    finish: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    if read(&dir.join(DATA)).ok().as_ref() == Some(&contents(payload)) {
        return Ok(());
    }
    let new = mkdtemp(&dir.join(format!("{PAYLOAD}XXXXXX")))?;
    fs::set_permissions(&new, Permissions::from_mode(0o755))?;
    write_files(&new, payload)?;
    finish(&new)?;
    let name = new.file_name().map(OsString::from).unwrap_or_default();
    let link = dir.join(DATA_NEW);
    remove(&link)?;
    symlink(&name, &link)?;
    fs::rename(&link, dir.join(DATA))?;
    show(dir, payload)?;
    sweep(dir, payload, &name)
}

fn write_files(dir: &Path, payload: &Payload) -> io::Result<()> {
    for (path, file) in payload {
        let path = dir.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut options = fs::OpenOptions::new();
        let mut written = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        io::Write::write_all(&mut written, &file.bytes)?;
        // Not by the mode above, which the umask cuts.
        written.set_permissions(Permissions::from_mode(file.mode))?;
    }
    Ok(())
}

/// The first part of every path, as a link through `..data`.
fn show(dir: &Path, payload: &Payload) -> io::Result<()> {
    for part in tops(payload) {
        let (link, target) = (dir.join(part), Path::new(DATA).join(part));
        match symlink(&target, &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => done?,
        }
    }
    Ok(())
}

fn tops(payload: &Payload) -> BTreeSet<&str> {
    payload
        .keys()
        .filter_map(|path| path.split('/').next())
        .collect()
}

/// Removes the files before this change, links to what is gone, and what a
/// crash left.
fn sweep(dir: &Path, payload: &Payload, current: &OsString) -> io::Result<()> {
    let tops = tops(payload);
    for entry in fs::read_dir(dir)? {
        let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if name.as_encoded_bytes().starts_with(PAYLOAD.as_bytes()) {
            if name != *current {
                fs::remove_dir_all(&entry)?;
            }
        } else if entry.is_symlink()
            && name != DATA
            && !name.to_str().is_some_and(|name| tops.contains(name))
        {
            remove(&entry)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

type Contents = Vec<(PathBuf, Vec<u8>)>;

fn contents(payload: &Payload) -> Contents {
    payload
        .iter()
        .map(|(path, file)| (path.into(), file.bytes.clone()))
        .collect()
}

/// What is in the directory now. Modes are not compared: they come from the
/// pod's specification, which does not change while it runs.
fn read(dir: &Path) -> io::Result<Contents> {
    let mut found = Contents::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let inside = path.strip_prefix(dir).map_err(io::Error::other)?;
                found.push((inside.into(), fs::read(&path)?));
            }
        }
    }
    found.sort();
    Ok(found)
}
