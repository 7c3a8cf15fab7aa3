//! Disks into files: what `coracle-block export` does.
//!
//! The file is new, sparse, and has its name only when it is complete. A
//! qcow2 image is written front to back, each table before the data it maps,
//! so that it can be imported again from a stream.

mod qcow2;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use coracle_api::{
    machine::{Disk, DiskSource},
    types::CacheMode,
};
use nix::unistd::{Whence, lseek64};

pub use self::qcow2::Compress;
use crate::{
    device::{self, Kind},
    import::{ImportError, Progress},
};

/// The form of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes.
    Raw,
    /// qcow2 version 3.
    Qcow2(Option<Compress>),
}

/// Bytes that are read at once; a cluster of a qcow2 image, and what is left
/// out where all of it is zeros.
const CLUSTER: usize = 64 << 10;

/// Copies a disk, which nothing may have in use, into a new file; the number
/// of bytes of the disk.
pub fn export(
    disk: &str,
    file: &Path,
    format: Format,
    progress: &Progress,
) -> Result<u64, ImportError> {
    let open = device::open(&as_disk(disk)?)?;
    let source = File::open(disk).map_err(|source| ImportError::Open {
        path: disk.into(),
        source,
    })?;
    if file.exists() {
        return Err(ImportError::NotEmpty {
            target: file.display().to_string(),
            found: "a file of that name".into(),
        });
    }
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Partial {
        path: partial.into(),
        kept: false,
    };
    let size = open.facts.size_bytes;
    progress.begin_disk(size);
    let written = write(&source, &partial.path, size, format, progress);
    written
        .and_then(|()| partial.keep(file))
        .map_err(|error| match error {
            Failure::Read(source) => ImportError::Read { source },
            Failure::Write(source) => ImportError::Target {
                target: file.display().to_string(),
                doing: "write",
                source,
            },
        })?;
    Ok(size)
}

/// Which side failed.
enum Failure {
    Read(io::Error),
    Write(io::Error),
}

fn write(
    source: &File,
    path: &Path,
    size: u64,
    format: Format,
    progress: &Progress,
) -> Result<(), Failure> {
    let file = File::create(path).map_err(Failure::Write)?;
    let mut out: Box<dyn Clusters> = match format {
        Format::Raw => {
            file.set_len(size).map_err(Failure::Write)?;
            Box::new(Raw(&file))
        }
        Format::Qcow2(compress) => {
            Box::new(qcow2::Image::new(&file, size, compress).map_err(Failure::Write)?)
        }
    };
    let mut bytes = vec![0; CLUSTER];
    let mut at = 0;
    while at < size {
        let data = next_data(source, at, size);
        if data > at {
            progress.add_disk(data - at);
            at = data;
            continue;
        }
        let len = CLUSTER.min(usize::try_from(size - at).unwrap_or(CLUSTER));
        let bytes = &mut bytes[..len];
        source.read_exact_at(bytes, at).map_err(Failure::Read)?;
        if bytes.iter().any(|byte| *byte != 0) {
            out.put(at, bytes).map_err(Failure::Write)?;
        }
        progress.add_disk(len as u64);
        at += len as u64;
    }
    out.finish().map_err(Failure::Write)?;
    file.sync_all().map_err(Failure::Write)
}

/// The next cluster with data at or behind `at`; the same place where holes
/// are not known.
fn next_data(source: &File, at: u64, size: u64) -> u64 {
    let Ok(from) = i64::try_from(at) else {
        return at;
    };
    match lseek64(source, from, Whence::SeekData) {
        Ok(found) => u64::try_from(found)
            .map_or(at, |found| found / CLUSTER as u64 * CLUSTER as u64)
            .max(at),
        Err(nix::errno::Errno::ENXIO) => size,
        Err(_) => at,
    }
}

/// A file that takes clusters in the order of the disk.
trait Clusters {
    fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    fn finish(&mut self) -> io::Result<()>;
}

struct Raw<'a>(&'a File);

impl Clusters for Raw<'_> {
    fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file under another name until it is complete.
struct Partial {
    path: PathBuf,
    kept: bool,
}

impl Partial {
    fn keep(mut self, name: &Path) -> Result<(), Failure> {
        fs::hard_link(&self.path, name)
            .and_then(|()| fs::remove_file(&self.path))
            .map_err(Failure::Write)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The disk, read-only, as a VM would have it.
fn as_disk(path: &str) -> Result<Disk, ImportError> {
    let path = path.to_owned();
    let source = match device::inspect(Path::new(&path))?.kind {
        Kind::Block { .. } => DiskSource::Block { path },
        Kind::File => DiskSource::File {
            path,
            create_bytes: None,
        },
    };
    Ok(Disk {
        cache: CacheMode::Writeback,
        read_only: true,
        ..Disk::plain("source", source)
    })
}
