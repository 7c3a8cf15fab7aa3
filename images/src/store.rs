//! The output directory: one archive per set of inputs, and a link with a
//! fixed name to the newest.
//!
//! `<out>/<key>/<image>.tar` with `<image>.json` beside it, `<out>/<image>.tar`
//! the link, `<out>/layers/` the layers made of Debian packages. Files and
//! links appear by rename, so a reader and a second build never see half of
//! one.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::build::BuildError;
use crate::oci::{Identity, Layer};
use crate::tree::Tree;

/// How many archives of one image stay: a few check-outs may take turns.
const KEEP: usize = 4;

/// What is kept beside a layer's blob.
#[derive(Serialize, Deserialize)]
struct LayerNote {
    diff_id: String,
    comment: String,
}

/// The output directory, as one image uses it.
pub(crate) struct Store<'a> {
    /// The directory.
    pub(crate) out: &'a Path,
    /// File name of the image's archive, without its ending.
    pub(crate) stem: &'static str,
}

impl Store<'_> {
    fn archive(&self, key: &str) -> PathBuf {
        self.out.join(key).join(format!("{}.tar", self.stem))
    }

    fn note(&self, key: &str) -> PathBuf {
        self.archive(key).with_extension("json")
    }

    pub(crate) fn find(&self, key: &str) -> Option<Identity> {
        let note = fs::read(self.note(key)).ok()?;
        self.archive(key)
            .is_file()
            .then(|| serde_json::from_slice(&note).ok())?
    }

    pub(crate) fn write(
        &self,
        key: &str,
        fill: impl FnOnce(&mut dyn io::Write) -> io::Result<Identity>,
    ) -> Result<Identity, BuildError> {
        let mut identity = None;
        let path = self.archive(key);
        write_whole(&path, |writer| {
            identity = Some(fill(writer)?);
            Ok(())
        })?;
        let identity = identity.expect("fill ran when the file was written");
        write_whole(&self.note(key), |writer| {
            Ok(serde_json::to_writer(writer, &identity)?)
        })?;
        Ok(identity)
    }

    /// The layer kept under `key`, made from `tree` when it is not there.
    pub(crate) fn layer(
        &self,
        key: &str,
        epoch: u64,
        tree: impl FnOnce() -> Result<Tree, BuildError>,
    ) -> Result<Layer, BuildError> {
        let path = self.out.join("layers").join(format!("{key}.tar.gz"));
        let note = path.with_extension("json");
        if let (Ok(blob), Ok(text)) = (fs::read(&path), fs::read(&note))
            && let Ok(LayerNote { diff_id, comment }) = serde_json::from_slice(&text)
        {
            return Ok(Layer {
                diff_id,
                blob,
                comment,
            });
        }
        let failed = |source| BuildError::Write {
            path: path.clone(),
            source,
        };
        let layer = Layer::pack(&tree()?, epoch, "files of Debian packages").map_err(failed)?;
        write_whole(&path, |writer| writer.write_all(&layer.blob))?;
        let kept = LayerNote {
            diff_id: layer.diff_id.clone(),
            comment: layer.comment.clone(),
        };
        write_whole(&note, |writer| Ok(serde_json::to_writer(writer, &kept)?))?;
        Ok(layer)
    }

    /// Points the fixed name at the archive of `key`, and drops old archives.
    pub(crate) fn publish(&self, key: &str) -> Result<PathBuf, BuildError> {
        let link = self.out.join(format!("{}.tar", self.stem));
        let failed = |source| BuildError::Write {
            path: link.clone(),
            source,
        };
        let target = Path::new(key).join(format!("{}.tar", self.stem));
        if fs::read_link(&link).is_ok_and(|now| now == target) {
            return Ok(link);
        }
        let fresh = tempfile::tempdir_in(self.out).map_err(failed)?;
        let staged = fresh.path().join("link");
        std::os::unix::fs::symlink(&target, &staged).map_err(failed)?;
        fs::rename(&staged, &link).map_err(failed)?;
        self.prune(key).map_err(failed)?;
        Ok(link)
    }

    fn prune(&self, newest: &str) -> io::Result<()> {
        let mut archives = Vec::new();
        for entry in fs::read_dir(self.out)? {
            let directory = entry?.path();
            let archive = directory.join(format!("{}.tar", self.stem));
            if let Ok(metadata) = fs::metadata(&archive)
                && !directory.ends_with(newest)
            {
                archives.push((
                    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    directory,
                ));
            }
        }
        archives.sort();
        let surplus = archives.len().saturating_sub(KEEP - 1);
        for (_, directory) in &archives[..surplus] {
            fs::remove_dir_all(directory)?;
        }
        Ok(())
    }
}

/// Writes a file that appears under its name only when it is whole.
fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> Result<(), BuildError> {
    let attempt = || {
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(directory)?;
        let mut partial = tempfile::NamedTempFile::new_in(directory)?;
        let mut writer = BufWriter::new(&mut partial);
        fill(&mut writer)?;
        writer.flush()?;
        drop(writer);
        partial.persist(path)?;
        Ok(())
    };
    attempt().map_err(|source| BuildError::Write {
        path: path.to_owned(),
        source,
    })
}
