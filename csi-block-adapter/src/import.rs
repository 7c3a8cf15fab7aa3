//! Images onto disks: what `coracle-block import` does.
//!
//! - [`Source`]: what names a source; `origin` opens it: `fetch` (HTTP),
//!   `registry` (OCI), files, standard input
//! - `compress`: gzip, zstd, xz; [`qcow2`]: the image format
//! - `target`: the disk, and how a half-filled one never looks like a disk
//! - `sink`: the threads that write; `buffer`: their memory
//!
//! A file that can be read anywhere is copied by all writers at once; a stream
//! is read by one thread, hashed on the way, and written by the others. Memory
//! is bounded either way, whatever the image says.
//!
//! **Never twice.** A target that holds data is refused, and one whose import
//! was interrupted is known by its first sector and filled again from the
//! start. Where the caller names a record (a file that lives as long as the
//! disk's contents are to be kept), a target that was filled is left alone.

mod buffer;
mod compress;
mod error;
mod fetch;
mod hash;
mod local;
mod origin;
mod progress;
pub mod qcow2;
mod raw;
mod record;
mod registry;
mod sink;
pub mod source;
mod target;

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::PathBuf,
    sync::Arc,
};

use serde::Serialize;

use self::{
    compress::Compression,
    origin::{Origin, Pass},
    qcow2::{Header, MAGIC, stream::Walk},
    raw::{copy_stream, peek},
    sink::Sink,
    target::{Found, Target, Wanted},
};
pub use self::{
    error::ImportError,
    fetch::{FetchError, Retry},
    progress::{Progress, Snapshot},
    source::Source,
};
use crate::format::foreign_format;

/// What to put where.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where the image comes from.
    pub source: Source,
    /// The block device or image file that is filled.
    pub target: String,
    /// The source's SHA-256 in hexadecimal; of a container image's file, that
    /// file's.
    pub checksum: Option<String>,
    /// Fill a target that holds data.
    pub overwrite: bool,
    /// Size of an image file that is not there yet; by default the image's.
    pub size: Option<u64>,
    /// Says, once it is there, that the target was filled.
    pub record: Option<PathBuf>,
    /// The source is the disk itself: it is neither unpacked nor read as an
    /// image, whatever it begins with.
    pub raw: bool,
    /// Write around the page cache where the target can.
    pub direct: bool,
    /// How servers are asked.
    pub remote: Remote,
}

/// How servers are asked.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    /// Certificate authorities in PEM form, in place of the built-in ones.
    pub authorities: Option<PathBuf>,
    /// A Docker `config.json` with credentials for registries.
    pub credentials: Option<PathBuf>,
    /// Registries without TLS.
    pub plain_http: bool,
    /// Patience.
    pub retry: Retry,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The disk was filled.
    Imported {
        /// `raw` or `qcow2`.
        format: &'static str,
        /// Bytes of the image's disk.
        size_bytes: u64,
        /// The source's, where it was read as a whole.
        sha256: Option<String>,
    },
    /// It was filled before, says the record; nothing was done.
    AlreadyImported,
}

/// Fills a disk.
///
/// # Guarantees
/// The target is untouched when it holds data and `overwrite` is not set. It
/// begins like a disk only when all of the image is on stable storage and its
/// checksum is right. At most some 60 MiB of memory are used.
pub fn import(request: &Request, progress: &Arc<Progress>) -> Result<Outcome, ImportError> {
    let mut import = Import {
        request,
        progress,
        target: None,
        sink: None,
        walk: None,
        format: "raw",
    };
    if fs::symlink_metadata(&request.target).is_ok() {
        import.refuse_same()?;
        match import.open_target(None)? {
            Some(target) => import.target = Some(target),
            None => return Ok(Outcome::AlreadyImported),
        }
    }
    let sha256 = import.fill()?;
    import.complete(sha256)
}

/// An import on its way.
struct Import<'a> {
    request: &'a Request,
    progress: &'a Arc<Progress>,
    /// Until the sink has it.
    target: Option<Target>,
    sink: Option<Sink>,
    /// What is known of a qcow2 image that comes as a stream.
    walk: Option<Walk>,
    format: &'static str,
}

impl Import<'_> {
    /// `None` when it was filled before.
    fn open_target(&self, create_bytes: Option<u64>) -> Result<Option<Target>, ImportError> {
        let request = self.request;
        let recorded = request.record.as_ref().is_some_and(|path| path.exists());
        let wanted = Wanted {
            path: &request.target,
            overwrite: request.overwrite && !recorded,
            direct: request.direct,
            create_bytes,
        };
        match Target::open(&wanted)? {
            Found::Filled(_) | Found::Empty(_) if recorded => Ok(None),
            Found::Filled(found) => Err(ImportError::NotEmpty {
                target: request.target.clone(),
                found,
            }),
            Found::Ready(target) | Found::Empty(target) => Ok(Some(target)),
        }
    }

    fn refuse_same(&self) -> Result<(), ImportError> {
        let Source::Path(path) = &self.request.source else {
            return Ok(());
        };
        let id = |found: fs::Metadata| {
            if found.file_type().is_block_device() {
                (u64::MAX, found.rdev())
            } else {
                (found.dev(), found.ino())
            }
        };
        let target = fs::metadata(&self.request.target).map(id).ok();
        if fs::metadata(path).map(id).ok() == target && target.is_some() {
            return Err(ImportError::Same {
                target: self.request.target.clone(),
            });
        }
        Ok(())
    }

    /// Puts everything but the first sectors onto the target; the source's
    /// sum, where it was read as a whole.
    fn fill(&mut self) -> Result<Option<String>, ImportError> {
        let mut origin = Origin::new(self.request)?;
        if let Some((file, head)) = origin.plain_file()? {
            return self.fill_from_file(file, &head);
        }
        let mut first: Option<String> = None;
        loop {
            let Pass { done, sha256 } =
                origin.read(self.progress, |stream, size| self.read_stream(stream, size))?;
            match &first {
                Some(before) if *before != sha256 => return Err(ImportError::Changed),
                _ => {}
            }
            self.check_sum(&sha256)?;
            if done {
                return Ok(Some(sha256));
            }
            if !origin.again() {
                return Err(ImportError::Order);
            }
            first = Some(sha256);
        }
    }

    fn check_sum(&self, found: &str) -> Result<(), ImportError> {
        match &self.request.checksum {
            Some(expected) if expected != found => Err(ImportError::Checksum {
                expected: expected.clone(),
                found: found.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn fill_from_file(
        &mut self,
        file: fs::File,
        head: &[u8],
    ) -> Result<Option<String>, ImportError> {
        let file = Arc::new(file);
        let sum = self
            .request
            .checksum
            .is_some()
            .then(|| local::hash(Arc::clone(&file)));
        let header = if self.request.raw {
            None
        } else {
            qcow2_header(head)?
        };
        let copied = if let Some(header) = header {
            self.format = "qcow2";
            self.begin(Some(header.size))?;
            qcow2::convert::convert(&file, &header, self.sink()?)
        } else {
            let size = local::size(&file)?;
            self.begin(Some(size))?;
            local::copy(&file, size, self.sink()?)
        };
        let sum = sum.map(local::Sum::wait).transpose()?;
        copied?;
        if let Some(sum) = &sum {
            self.check_sum(sum)?;
        }
        Ok(sum)
    }

    /// Reads a stream once; whether that was enough.
    fn read_stream(
        &mut self,
        stream: &mut dyn Read,
        size: Option<u64>,
    ) -> Result<bool, ImportError> {
        let head = peek(stream)?;
        if head.is_empty() {
            return Err(ImportError::EmptySource);
        }
        let mut stream = io::Cursor::new(head.clone()).chain(stream);
        if self.request.raw {
            self.begin(size)?;
            copy_stream(&mut stream, self.sink()?)?;
            return Ok(true);
        }
        let compression = Compression::detect(&head);
        let Some(compression) = compression else {
            return self.read_image(&mut { stream }, &head, size);
        };
        let mut unpacked = compression.unpack(stream)?;
        let head = peek(&mut unpacked)?;
        if Compression::detect(&head).is_some() {
            return Err(ImportError::CompressedTwice);
        }
        self.read_image(
            &mut io::Cursor::new(head.clone()).chain(unpacked),
            &head,
            None,
        )
    }

    fn read_image(
        &mut self,
        stream: &mut dyn Read,
        head: &[u8],
        size: Option<u64>,
    ) -> Result<bool, ImportError> {
        let done = if let Some(header) = qcow2_header(head)? {
            self.format = "qcow2";
            let mut walk = if let Some(walk) = self.walk.take() {
                walk
            } else {
                self.begin(Some(header.size))?;
                Walk::new(header)
            };
            let done = walk.read(stream, self.sink()?)?;
            self.walk = Some(walk);
            done
        } else {
            self.begin(size)?;
            copy_stream(stream, self.sink()?)?;
            true
        };
        // The archive's own check sum is at its end.
        io::copy(stream, &mut io::sink())?;
        Ok(done)
    }

    /// Marks the target and starts the writers. `need` is the size of the
    /// image's disk, where it is known.
    fn begin(&mut self, need: Option<u64>) -> Result<(), ImportError> {
        let target = if let Some(target) = self.target.take() {
            target
        } else {
            let size = self
                .request
                .size
                .or(need)
                .ok_or_else(|| ImportError::NoSize {
                    target: self.request.target.clone(),
                })?;
            let opened = self.open_target(Some(size.next_multiple_of(512)))?;
            // It was not there a moment ago.
            opened.ok_or(ImportError::Changed)?
        };
        if let Some(need) = need {
            target.fits(need)?;
            self.progress.begin_disk(need);
        }
        target.begin()?;
        self.sink = Some(Sink::new(target, Arc::clone(self.progress)));
        Ok(())
    }

    fn sink(&mut self) -> Result<&mut Sink, ImportError> {
        self.sink.as_mut().ok_or(ImportError::Worker)
    }

    fn complete(self, sha256: Option<String>) -> Result<Outcome, ImportError> {
        let sink = self.sink.ok_or(ImportError::Worker)?;
        let (target, size_bytes) = sink.finish()?;
        target.clear_rest(size_bytes)?;
        let outcome = Outcome::Imported {
            format: self.format,
            size_bytes,
            sha256,
        };
        let record = self.request.record.as_ref();
        target.finish(|| record.map_or(Ok(()), |path| record::write(path, &outcome)))?;
        Ok(outcome)
    }
}

fn qcow2_header(head: &[u8]) -> Result<Option<Header>, ImportError> {
    if let Some(what) = foreign_format(head) {
        return Err(ImportError::Format { what });
    }
    if !head.starts_with(&MAGIC) {
        return Ok(None);
    }
    Ok(Some(Header::parse(head)?))
}
