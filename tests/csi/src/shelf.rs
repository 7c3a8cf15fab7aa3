//! A directory of things: each with its facts (JSON) and its data (a sparse
//! file), in a directory named after its identifier. A thing is there whole or
//! not at all: it is made beside its place and renamed.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::{CsiError, io};

const FACTS: &str = "facts.json";
const DATA: &str = "data";
/// Hexadecimal digits of an identifier.
const ID_LENGTH: usize = 32;

/// The identifier of what has this name: whoever asks for it twice gets the
/// same, also from another process.
pub(crate) fn id(name: &str) -> String {
    let mut id = format!("{:x}", Sha256::digest(name.as_bytes()));
    id.truncate(ID_LENGTH);
    id
}

/// Whether it can be one: what cannot is never made part of a path.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A thing on the shelf.
#[derive(Clone, Debug)]
pub(crate) struct Item<T> {
    pub(crate) facts: T,
    /// The size of its data.
    pub(crate) bytes: u64,
}

/// The shelf.
#[derive(Debug)]
pub(crate) struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    /// Opens it, and throws away what was not finished.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, CsiError> {
        fs::create_dir_all(&dir).map_err(io("create", &dir))?;
        for entry in fs::read_dir(&dir).map_err(io("read", &dir))? {
            let path = entry.map_err(io("read", &dir))?.path();
            if !path
                .file_name()
                .is_some_and(|name| is_id(&name.to_string_lossy()))
            {
                fs::remove_dir_all(&path).map_err(io("remove", &path))?;
            }
        }
        Ok(Self { dir })
    }

    /// Where the data of a thing is.
    pub(crate) fn data(&self, id: &str) -> PathBuf {
        self.dir.join(id).join(DATA)
    }

    /// The thing with this identifier.
    pub(crate) fn get<T: DeserializeOwned>(&self, id: &str) -> Result<Option<Item<T>>, CsiError> {
        let path = self.dir.join(id).join(FACTS);
        if !is_id(id) || !path.exists() {
            return Ok(None);
        }
        let text = fs::read(&path).map_err(io("read", &path))?;
        let facts = serde_json::from_slice(&text);
        let facts = facts.map_err(|source| CsiError::Facts { path, source })?;
        let data = self.data(id);
        let bytes = fs::metadata(&data).map_err(io("look at", &data))?.len();
        Ok(Some(Item { facts, bytes }))
    }

    /// Everything, sorted by identifier.
    pub(crate) fn list<T: DeserializeOwned>(&self) -> Result<Vec<(String, Item<T>)>, CsiError> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(io("read", &self.dir))? {
            let name = entry.map_err(io("read", &self.dir))?.file_name();
            let id = name.to_string_lossy().into_owned();
            if let Some(item) = self.get(&id)? {
                all.push((id, item));
            }
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(all)
    }

    /// Makes a thing of `bytes` that begins with a copy of `source`.
    pub(crate) fn make<T: Serialize>(
        &self,
        id: &str,
        facts: &T,
        source: Option<&Path>,
        bytes: u64,
    ) -> Result<(), CsiError> {
        let dir = tempfile::Builder::new()
            .prefix("new-")
            .tempdir_in(&self.dir);
        let dir = dir.map_err(io("create a directory in", &self.dir))?;
        let data = dir.path().join(DATA);
        let mut file = File::create_new(&data).map_err(io("create", &data))?;
        if let Some(source) = source {
            copy(source, &mut file).map_err(io("copy", source))?;
        }
        file.set_len(bytes).map_err(io("size", &data))?;
        file.sync_all().map_err(io("sync", &data))?;
        let path = dir.path().join(FACTS);
        let text = serde_json::to_vec(facts);
        let text = text.map_err(|source| CsiError::Facts {
            path: path.clone(),
            source,
        })?;
        fs::write(&path, text).map_err(io("write", &path))?;
        let place = self.dir.join(id);
        fs::rename(dir.keep(), &place).map_err(io("make", &place))
    }

    /// Makes the data of a thing longer.
    pub(crate) fn grow(&self, id: &str, bytes: u64) -> Result<(), CsiError> {
        let data = self.data(id);
        let file = File::options().write(true).open(&data);
        let file = file.map_err(io("open", &data))?;
        file.set_len(bytes).map_err(io("size", &data))
    }

    /// Removes a thing, if it is there.
    pub(crate) fn remove(&self, id: &str) -> Result<(), CsiError> {
        let dir = self.dir.join(id);
        if !is_id(id) || !dir.exists() {
            return Ok(());
        }
        fs::remove_dir_all(&dir).map_err(io("remove", &dir))
    }
}

/// Copies a file: what is a hole in it stays one, and is not read.
fn copy(source: &Path, to: &mut File) -> std::io::Result<()> {
    let from = File::open(source)?;
    let mut end = 0;
    while let Some(start) = seek(&from, end, Whence::SeekData)? {
        end = seek(&from, start, Whence::SeekHole)?.unwrap_or(start);
        let length = end.saturating_sub(start);
        (&from).seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        std::io::copy(&mut (&from).take(length), to)?;
    }
    Ok(())
}

/// Where the next data, or hole, begins; `None` when there is none.
fn seek(file: &File, from: u64, to: Whence) -> std::io::Result<Option<u64>> {
    let from = i64::try_from(from).map_err(std::io::Error::other)?;
    match lseek(file, from, to) {
        Ok(found) => Ok(u64::try_from(found).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    fn shelf(dir: &Path) -> Shelf {
        Shelf::open(dir.join("things")).expect("it opens")
    }

    #[test]
    fn what_was_made_is_there_after_a_restart_and_what_was_not_finished_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = shelf(dir.path());
        first
            .make(&id("a"), &"the facts", None, 4096)
            .expect("made");
        fs::create_dir(dir.path().join("things/new-half")).expect("left behind");
        let again = shelf(dir.path());
        let all = again.list::<String>().expect("readable");
        assert_eq!(all.len(), 1);
        assert_eq!(
            (all[0].1.facts.as_str(), all[0].1.bytes),
            ("the facts", 4096)
        );
        assert!(!dir.path().join("things/new-half").exists());
        again.remove(&id("a")).expect("removed");
        again.remove(&id("a")).expect("twice is once");
        assert!(again.get::<String>(&id("a")).expect("readable").is_none());
    }

    #[test]
    fn a_copy_has_the_bytes_and_the_holes() {
        let dir = tempfile::tempdir().expect("a directory");
        let source = dir.path().join("source");
        let mut content = vec![0; 4 << 20];
        content[3 << 20..][..5].copy_from_slice(b"hello");
        let file = File::create(&source).expect("made");
        file.set_len(4 << 20).expect("sized");
        file.write_all_at(b"hello", 3 << 20).expect("written");
        let shelf = shelf(dir.path());
        shelf
            .make(&id("b"), &(), Some(&source), 5 << 20)
            .expect("made");
        content.resize(5 << 20, 0);
        let data = shelf.data(&id("b"));
        assert!(fs::read(&data).expect("readable") == content);
        assert!(fs::metadata(&data).expect("there").blocks() * 512 <= 1 << 20);
    }

    #[test]
    fn a_path_is_no_identifier() {
        let dir = tempfile::tempdir().expect("a directory");
        let shelf = shelf(dir.path());
        assert!(shelf.get::<()>("../things").expect("refused").is_none());
        shelf.remove("../things").expect("refused");
        assert!(dir.path().join("things").exists());
    }
}
