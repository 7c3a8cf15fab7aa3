//! Reads from an ELF file what the dynamic loader would: which libraries it
//! needs and which interpreter runs it.
//!
//! Knows 64-bit little-endian files only, the one kind that the images hold.
//! It never runs anything: `ldd` executes the file it is asked about with the
//! host's loader, and so answers for the host.

/// What a program or library wants from the root file system around it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Elf {
    /// Path of the loader; `None` for libraries and static programs.
    pub interpreter: Option<String>,
    /// `DT_NEEDED`, in the file's order.
    pub needed: Vec<String>,
}

/// Why a file that begins like ELF could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ElfError {
    /// Another class, byte order or machine.
    #[error("not a 64-bit little-endian x86-64 ELF file")]
    Foreign,
    /// A header points outside of the file.
    #[error("truncated or damaged ELF file: {what} lies outside of it")]
    Damaged {
        /// The part that could not be read.
        what: &'static str,
    },
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const EM_X86_64: u16 = 62;

/// One program header, as far as it matters here.
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

/// Reads `bytes`; `None` when they are not an ELF file at all.
pub fn parse(bytes: &[u8]) -> Result<Option<Elf>, ElfError> {
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    // Class 2 is 64 bits, data 1 is little-endian.
    if bytes.get(4..6) != Some(&[2, 1]) || u16_at(bytes, 18)? != EM_X86_64 {
        return Err(ElfError::Foreign);
    }
    let segments = segments(bytes)?;
    let mut elf = Elf::default();
    for segment in &segments {
        match segment.kind {
            PT_INTERP => elf.interpreter = Some(string_at(bytes, segment.offset)?),
            PT_DYNAMIC => elf.needed = needed(bytes, segment, &segments)?,
            _ => {}
        }
    }
    Ok(Some(elf))
}

fn segments(bytes: &[u8]) -> Result<Vec<Segment>, ElfError> {
    let table = u64_at(bytes, 32)?;
    let entry_size = u64::from(u16_at(bytes, 54)?);
    let count = u64::from(u16_at(bytes, 56)?);
    (0..count)
        .map(|index| {
            let at = table
                .checked_add(index * entry_size)
                .ok_or(ElfError::Damaged {
                    what: "the program header table",
                })?;
            Ok(Segment {
                kind: u32_at(bytes, at)?,
                offset: u64_at(bytes, at.saturating_add(8))?,
                address: u64_at(bytes, at.saturating_add(16))?,
                size: u64_at(bytes, at.saturating_add(32))?,
            })
        })
        .collect()
}

fn needed(bytes: &[u8], dynamic: &Segment, all: &[Segment]) -> Result<Vec<String>, ElfError> {
    let mut names = Vec::new();
    let mut strings = None;
    for index in 0..dynamic.size / 16 {
        let at = dynamic.offset.saturating_add(index * 16);
        let value = u64_at(bytes, at.saturating_add(8))?;
        match u64_at(bytes, at)? {
            DT_NULL => break,
            DT_NEEDED => names.push(value),
            DT_STRTAB => strings = Some(value),
            _ => {}
        }
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let table = strings
        .and_then(|address| file_offset(address, all))
        .ok_or(ElfError::Damaged {
            what: "the dynamic string table",
        })?;
    names
        .into_iter()
        .map(|name| string_at(bytes, table.saturating_add(name)))
        .collect()
}

fn file_offset(address: u64, segments: &[Segment]) -> Option<u64> {
    segments
        .iter()
        .filter(|segment| segment.kind == PT_LOAD)
        .find(|segment| {
            (segment.address..segment.address.saturating_add(segment.size)).contains(&address)
        })
        .and_then(|segment| segment.offset.checked_add(address - segment.address))
}

fn array_at<const N: usize>(bytes: &[u8], at: u64) -> Result<[u8; N], ElfError> {
    usize::try_from(at)
        .ok()
        .and_then(|at| bytes.get(at..at.checked_add(N)?))
        .and_then(|slice| slice.try_into().ok())
        .ok_or(ElfError::Damaged { what: "a header" })
}

fn u16_at(bytes: &[u8], at: u64) -> Result<u16, ElfError> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: u64) -> Result<u32, ElfError> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: u64) -> Result<u64, ElfError> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

fn string_at(bytes: &[u8], at: u64) -> Result<String, ElfError> {
    let text = usize::try_from(at)
        .ok()
        .and_then(|at| bytes.get(at..))
        .and_then(|rest| rest.split(|byte| *byte == 0).next())
        .ok_or(ElfError::Damaged { what: "a string" })?;
    Ok(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_file_is_not_elf() {
        assert_eq!(parse(b"#!/bin/sh\n"), Ok(None));
    }

    #[test]
    fn this_test_program_needs_libc_and_a_loader() {
        let me = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let elf = parse(&me).unwrap().unwrap();
        assert!(elf.needed.iter().any(|name| name == "libc.so.6"), "{elf:?}");
        assert_eq!(
            elf.interpreter.as_deref(),
            Some("/lib64/ld-linux-x86-64.so.2")
        );
    }

    #[test]
    fn a_32_bit_file_is_refused() {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x01\x01");
        assert_eq!(parse(&bytes), Err(ElfError::Foreign));
    }

    #[test]
    fn no_truncation_of_a_program_panics() {
        let me = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for length in (4..4096).step_by(7) {
            // A cut file is either damaged or has lost only what is not read.
            let _ = parse(&me[..length]);
        }
        assert!(matches!(parse(&me[..64]), Err(ElfError::Damaged { .. })));
    }
}
