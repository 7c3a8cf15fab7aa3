//! The disk that is filled: a block device, or an image file.
//!
//! A half-filled disk is never mistaken for a disk. Before anything else is
//! written the first sector becomes the mark of an import in progress. The
//! image's own first sectors are kept in memory; when all the rest is on
//! stable storage and every checksum is right they are written, the very first
//! sector last. A device writes a sector whole or not at all, so at any moment
//! the disk is untouched, marked, or complete. Nothing of the mark is left for
//! the guest to see.
//!
//! The target is held exclusively while it is filled.

mod check;

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use coracle_api::{
    machine::{Disk, DiskSource},
    types::CacheMode,
};
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, OFlag, fallocate},
};

use self::check::{MARK, State};
use super::{
    buffer::{ALIGN, Buffer, CHUNK},
    error::ImportError,
};
use crate::device::{self, DeviceFacts, Kind, OpenDisk};

/// The first bytes, which are written in the end.
const HEAD: usize = ALIGN;

/// What is wanted of a target.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) path: &'a str,
    /// Fill it although it holds data.
    pub(crate) overwrite: bool,
    /// Around the page cache.
    pub(crate) direct: bool,
    /// Size of a file that is made.
    pub(crate) create_bytes: Option<u64>,
}

/// How a range of the target is zeroed, from best to worst; after these two
/// zeros are written.
const PUNCH: u8 = 0;
const ZERO: u8 = 1;

/// A target, held.
pub(crate) struct Target {
    /// Keeps others out.
    _guard: OpenDisk,
    pub(crate) facts: DeviceFacts,
    direct: Option<File>,
    cached: File,
    head: Mutex<Vec<u8>>,
    zeroing: AtomicU8,
    /// An image file without data: what is not written reads as zeros.
    blank: bool,
}

/// What a target is before it is filled.
pub(crate) enum Found {
    /// It is to be filled.
    Ready(Target),
    /// It has zeros at both ends, as a disk that was filled with zeros has.
    Empty(Target),
    /// It is a disk already; the text says what was seen.
    Filled(String),
}

impl Target {
    /// Opens a target and looks what is on it. Nothing is written.
    pub(crate) fn open(wanted: &Wanted<'_>) -> Result<Found, ImportError> {
        let guard = device::open(&as_disk(wanted))?;
        let facts = guard.facts.clone();
        let failed = |doing| fail(wanted.path, doing);
        let open = |flags: OFlag| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags((flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).bits())
                .open(wanted.path)
        };
        let cached = open(OFlag::empty()).map_err(failed("open"))?;
        // A file system without direct I/O is no reason to fail.
        let direct = wanted.direct.then(|| open(OFlag::O_DIRECT).ok()).flatten();
        let state = check::look(&cached, &facts).map_err(failed("read"))?;
        let blank = facts.kind == Kind::File && state == State::Hole;
        let target = Self {
            _guard: guard,
            facts,
            direct,
            cached,
            head: Mutex::new(vec![0; HEAD]),
            zeroing: AtomicU8::new(PUNCH),
            blank,
        };
        Ok(match state {
            State::Holds(found) if !wanted.overwrite => Found::Filled(found),
            State::Empty => Found::Empty(target),
            State::Holds(_) | State::Hole | State::Interrupted => Found::Ready(target),
        })
    }

    /// Marks the target as being filled.
    pub(crate) fn begin(&self) -> Result<(), ImportError> {
        let mut sector = vec![0; self.sector()];
        sector[..MARK.len()].copy_from_slice(MARK);
        self.put(0, &sector)?;
        self.sync()
    }

    /// Writes data. `at` is a multiple of the sector size.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> Result<(), ImportError> {
        let Some(rest) = self.keep_head(at, bytes) else {
            return Ok(());
        };
        self.put(at + (bytes.len() - rest.len()) as u64, rest)
    }

    /// Makes a range read as zeros, without its space where possible.
    pub(crate) fn zero(&self, at: u64, len: u64) -> Result<(), ImportError> {
        let end = at.saturating_add(len);
        // The head was zero from the start.
        let at = at.max(HEAD as u64);
        if self.blank || at >= end {
            return Ok(());
        }
        let sector = self.sector() as u64;
        let inner = at.next_multiple_of(sector)..end / sector * sector;
        if inner.is_empty() {
            return self.write_zeros(at, end);
        }
        self.write_zeros(at, inner.start)?;
        self.zero_sectors(inner.start, inner.end - inner.start)?;
        self.write_zeros(inner.end, end)
    }

    /// Makes what is behind the image zeros where that costs nothing, and in
    /// any case the end, where partition tables have their copy.
    pub(crate) fn clear_rest(&self, from: u64) -> Result<(), ImportError> {
        let size = self.facts.size_bytes;
        if self.zeroing.load(Ordering::Relaxed) == PUNCH {
            let done = self.zero(from, size.saturating_sub(from));
            if done.is_err() || self.zeroing.load(Ordering::Relaxed) == PUNCH {
                return done;
            }
        }
        let end = size.saturating_sub(check::EDGE).max(from);
        self.zero(end, size - end)
    }

    /// Writes the first sectors, in the order that leaves no half of a disk.
    /// `before_last` is called when everything but the first sector is stable.
    pub(crate) fn finish(
        &self,
        before_last: impl FnOnce() -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let head = self.lock_head();
        let sector = self.sector();
        let end = HEAD.min(usize::try_from(self.facts.size_bytes).unwrap_or(HEAD));
        self.put(sector as u64, &head[sector..end])?;
        self.sync()?;
        before_last()?;
        self.put(0, &head[..sector])?;
        self.sync()
    }

    fn sector(&self) -> usize {
        (self.facts.logical_block_size as usize).clamp(512, HEAD)
    }

    fn lock_head(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what belongs to the head; what is left, if anything.
    fn keep_head<'a>(&self, at: u64, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let at = match usize::try_from(at) {
            Ok(at) if at < HEAD => at,
            _ => return Some(bytes),
        };
        let (kept, rest) = bytes.split_at(bytes.len().min(HEAD - at));
        self.lock_head()[at..at + kept.len()].copy_from_slice(kept);
        (!rest.is_empty()).then_some(rest)
    }

    fn put(&self, at: u64, bytes: &[u8]) -> Result<(), ImportError> {
        let aligned = bytes.len() / ALIGN * ALIGN;
        let memory = bytes.as_ptr().align_offset(ALIGN) == 0;
        let (first, rest) = match &self.direct {
            Some(direct) if memory && at.is_multiple_of(ALIGN as u64) => {
                let (first, rest) = bytes.split_at(aligned);
                if !first.is_empty() {
                    direct
                        .write_all_at(first, at)
                        .map_err(fail(&self.facts.path, "write to"))?;
                }
                (first.len() as u64, rest)
            }
            _ => (0, bytes),
        };
        self.cached
            .write_all_at(rest, at + first)
            .map_err(fail(&self.facts.path, "write to"))
    }

    fn write_zeros(&self, mut at: u64, end: u64) -> Result<(), ImportError> {
        if at >= end {
            return Ok(());
        }
        let zeros = Buffer::new();
        while at < end {
            let len = (CHUNK as u64).min(end - at);
            let len_bytes = usize::try_from(len).unwrap_or(CHUNK);
            self.put(at, &zeros.bytes()[..len_bytes])?;
            at += len;
        }
        Ok(())
    }

    fn zero_sectors(&self, at: u64, len: u64) -> Result<(), ImportError> {
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        loop {
            let way = self.zeroing.load(Ordering::Relaxed);
            let flag = match way {
                PUNCH => FallocateFlags::FALLOC_FL_PUNCH_HOLE,
                ZERO => FallocateFlags::FALLOC_FL_ZERO_RANGE,
                _ => return self.write_zeros(at, at + len),
            };
            let (Ok(start), Ok(bytes)) = (at.try_into(), len.try_into()) else {
                return self.write_zeros(at, at + len);
            };
            match fallocate(&self.cached, flag | keep, start, bytes) {
                Ok(()) => return Ok(()),
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL | Errno::ENODEV) => {
                    self.zeroing.fetch_max(way + 1, Ordering::Relaxed);
                }
                Err(Errno::EINTR) => {}
                Err(error) => {
                    return Err(fail(&self.facts.path, "zero a part of")(error.into()));
                }
            }
        }
    }

    fn sync(&self) -> Result<(), ImportError> {
        self.cached
            .sync_all()
            .map_err(fail(&self.facts.path, "flush"))
    }

    /// Checks that the image fits, where its size is known.
    pub(crate) fn fits(&self, need: u64) -> Result<(), ImportError> {
        if need <= self.facts.size_bytes {
            return Ok(());
        }
        Err(ImportError::TooSmall {
            target: self.facts.path.clone(),
            have: self.facts.size_bytes,
            need,
        })
    }
}

fn fail(target: &str, doing: &'static str) -> impl Fn(io::Error) -> ImportError {
    move |source| ImportError::Target {
        target: target.to_owned(),
        doing,
        source,
    }
}

/// The target as a VM's disk: what a VM may open is what is filled.
fn as_disk(wanted: &Wanted<'_>) -> Disk {
    let path = wanted.path.to_owned();
    let is_device = Path::new(wanted.path)
        .symlink_metadata()
        .is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_block_device(&found.file_type()));
    let source = if is_device {
        DiskSource::Block { path }
    } else {
        DiskSource::File {
            path,
            create_bytes: wanted.create_bytes,
        }
    };
    Disk {
        cache: CacheMode::Writeback,
        ..Disk::plain("target", source)
    }
}
