//! Whether qemu can use Linux `io_uring` here: whether the kernel and the
//! container's sandbox let this process make a ring, and whether the qemu at
//! hand was built with it.
//!
//! A container's seccomp profile, `kernel.io_uring_disabled` and the limit of
//! locked memory all show in one attempt, because qemu runs in the same
//! container as the shim that asks. qemu itself is not started: it is linked
//! with `liburing`, or it is not. Never keeps a ring.

use std::{
    fs::File,
    io,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
};

use nix::{errno::Errno, libc};

/// How many entries qemu gives each of its rings (`block/io_uring.c`).
const ENTRIES: u32 = 128;
/// Bytes of `struct io_uring_params` (`linux/io_uring.h`).
const PARAMS: usize = 120;
/// The library by which a qemu has `io_uring`.
const LIBRARY: &[u8] = b"liburing.so";

/// Why `io_uring` cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoIoUring {
    /// The kernel has none.
    #[error("the kernel has no io_uring")]
    Kernel,
    /// A seccomp profile or `kernel.io_uring_disabled` refuses it.
    #[error("the container's sandbox refuses io_uring")]
    Sandbox,
    /// The limit of locked memory is too low for a ring.
    #[error("the limit of locked memory is too low for io_uring")]
    Memory,
    /// The kernel refuses it with another error.
    #[error("the kernel refuses io_uring ({0})")]
    Refused(Errno),
    /// qemu was built without it, or is not there to be looked at.
    #[error("this qemu is not linked with liburing")]
    Qemu,
}

/// Tries to make a ring, and looks at the qemu at `program`.
///
/// # Errors
/// [`NoIoUring`] says what is in the way, the kernel's side first.
pub fn probe(program: &Path) -> Result<(), NoIoUring> {
    setup().map_err(|errno| match errno {
        Errno::ENOSYS => NoIoUring::Kernel,
        Errno::EPERM | Errno::EACCES => NoIoUring::Sandbox,
        Errno::ENOMEM => NoIoUring::Memory,
        errno => NoIoUring::Refused(errno),
    })?;
    match needs_liburing(program) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(NoIoUring::Qemu),
    }
}

#[expect(unsafe_code, reason = "neither libc nor nix has this system call")]
fn setup() -> Result<(), Errno> {
    let mut params = [0_u64; PARAMS / 8];
    // SAFETY: the kernel reads and writes one `io_uring_params`, which `params`
    // has room and alignment for.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, params.as_mut_ptr()) };
    let ring = i32::try_from(Errno::result(ring)?).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the descriptor was just made, and nothing else knows of it.
    drop(unsafe { OwnedFd::from_raw_fd(ring) });
    Ok(())
}

/// Whether the ELF file names `liburing` among the libraries it needs.
fn needs_liburing(program: &Path) -> io::Result<bool> {
    let file = File::open(program)?;
    let elf = Elf { file };
    let Some(dynamic) = elf.segment(Elf::PT_DYNAMIC, |_| true)? else {
        return Ok(false);
    };
    let entries = elf.read(dynamic.offset, dynamic.size.min(64 << 10))?;
    let entry = |bytes: &[u8]| (word(bytes, 0), word(bytes, 8));
    let entries: Vec<(u64, u64)> = entries.chunks_exact(16).map(entry).collect();
    let value = |tag| entries.iter().find(|(found, _)| *found == tag);
    let Some((_, strings)) = value(Elf::DT_STRTAB) else {
        return Ok(false);
    };
    let holds = |load: &Segment| (load.address..load.address + load.size).contains(strings);
    let Some(load) = elf.segment(Elf::PT_LOAD, holds)? else {
        return Ok(false);
    };
    for (_, name) in entries.iter().filter(|(tag, _)| *tag == Elf::DT_NEEDED) {
        let at = load.offset + (strings - load.address) + name;
        if elf.read(at, LIBRARY.len() as u64)? == LIBRARY {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A 64-bit little-endian ELF file, as far as it is needed here.
struct Elf {
    file: File,
}

/// A program header.
#[derive(Clone, Copy)]
struct Segment {
    offset: u64,
    address: u64,
    size: u64,
}

impl Elf {
    const PT_LOAD: u32 = 1;
    const PT_DYNAMIC: u32 = 2;
    const DT_NEEDED: u64 = 1;
    const DT_STRTAB: u64 = 5;

    /// The first segment of a kind that `wanted` takes.
    fn segment(&self, kind: u32, wanted: impl Fn(&Segment) -> bool) -> io::Result<Option<Segment>> {
        let header = self.read(0, 64)?;
        if header.get(..5) != Some(b"\x7fELF\x02") {
            return Ok(None);
        }
        let (table, count) = (word(&header, 32), u64::from(header[56]));
        for index in 0..count {
            let entry = self.read(table + index * 56, 56)?;
            let segment = Segment {
                offset: word(&entry, 8),
                address: word(&entry, 16),
                size: word(&entry, 32),
            };
            if entry.get(..4) == Some(&kind.to_le_bytes()[..]) && wanted(&segment) {
                return Ok(Some(segment));
            }
        }
        Ok(None)
    }

    fn read(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    #[test]
    fn a_program_is_linked_with_liburing_when_the_linker_says_so() {
        let programs = [
            "/usr/bin/qemu-system-x86_64",
            "/usr/bin/qemu-img",
            "/bin/ls",
        ];
        for program in programs {
            let listed = Command::new("readelf")
                .args(["--dynamic", program])
                .output();
            let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
                eprintln!("skipped: readelf has nothing to say of {program}");
                continue;
            };
            let wanted = String::from_utf8_lossy(&listed.stdout).contains("[liburing.so");
            let found = needs_liburing(Path::new(program)).expect("reads");
            assert_eq!(found, wanted, "{program}");
        }
    }

    #[test]
    fn what_is_no_program_has_no_io_uring() {
        let dir = tempfile::tempdir().expect("makes a directory");
        let path = dir.path().join("qemu");
        assert!(needs_liburing(&path).is_err());
        for text in [&b"#!/bin/sh\nexec qemu\n"[..], &[0; 64], b"\x7fELF\x02"] {
            fs::write(&path, text).expect("writes");
            assert!(!needs_liburing(&path).unwrap_or(false));
        }
    }
}
