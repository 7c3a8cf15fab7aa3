//! What is on a target before it is filled.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek64},
};

use crate::device::{DeviceFacts, Kind};
use crate::import::buffer::is_zero;

/// Bytes at the beginning and at the end that must be zero. Every partition
/// table and every file system has something there.
pub(super) const EDGE: u64 = 1 << 20;
/// The first sector of a disk that is being filled.
pub(super) const MARK: &[u8] = b"coracle.dev: an import is in progress; this is not a disk yet\n";

/// What a target looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A file without a single block.
    Hole,
    /// Zeros at both ends.
    Empty,
    /// An earlier import did not end.
    Interrupted,
    /// Something; the text says what.
    Holds(String),
}

/// What some places of a disk say, most telling first: offset, bytes, name.
const SIGNATURES: [(usize, &[u8], &str); 12] = [
    (512, b"EFI PART", "a GUID partition table"),
    (0, b"XFSB", "an XFS file system"),
    (0, b"LUKS\xba\xbe", "a LUKS volume"),
    (0, b"BITLOCKER", "a BitLocker volume"),
    (3, b"NTFS    ", "an NTFS file system"),
    (54, b"FAT", "a FAT file system"),
    (82, b"FAT32", "a FAT file system"),
    (1080, &[0x53, 0xef], "an ext file system"),
    (0x10040, b"_BHRfS_M", "a Btrfs file system"),
    (0x8001, b"CD001", "an ISO 9660 file system"),
    (536, b"LVM2 001", "an LVM physical volume"),
    (510, &[0x55, 0xaa], "a boot sector"),
];

/// Looks at both ends of a target.
pub(super) fn look(file: &File, facts: &DeviceFacts) -> io::Result<State> {
    if facts.kind == Kind::File && has_no_data(file) {
        return Ok(State::Hole);
    }
    let edge = usize::try_from(EDGE.min(facts.size_bytes)).map_err(io::Error::other)?;
    let mut bytes = vec![0; edge];
    file.read_exact_at(&mut bytes, 0)?;
    if bytes.starts_with(MARK) {
        return Ok(State::Interrupted);
    }
    if !is_zero(&bytes) {
        return Ok(State::Holds(name(&bytes).to_owned()));
    }
    file.read_exact_at(&mut bytes, facts.size_bytes - edge as u64)?;
    Ok(if is_zero(&bytes) {
        State::Empty
    } else {
        State::Holds("something in its last MiB".into())
    })
}

fn name(bytes: &[u8]) -> &'static str {
    SIGNATURES
        .iter()
        .find(|(at, magic, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)))
        .map_or("something in its first MiB", |(_, _, name)| name)
}

fn has_no_data(file: &File) -> bool {
    lseek64(file, 0, Whence::SeekData) == Err(Errno::ENXIO)
}
