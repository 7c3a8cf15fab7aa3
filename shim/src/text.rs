//! Gives back the program text that only start-up needed.
//!
//! Reading the machine description, checking disks and building qemu's command
//! line touch most of this program once; watching the VM afterwards touches a
//! small part. Page-table entries for the rest would count as this process's
//! memory for as long as the guest runs. Linux maps the pages again, from the
//! page cache, when they are needed.

use std::{ffi::c_void, fs, io, ptr::NonNull};

use nix::sys::mman::{MmapAdvise, madvise};

/// Unmaps the pages of this program's text (`madvise(2)`, `MADV_DONTNEED`).
///
/// Only the executable mapping of the program's own file: it is never written
/// to, so what is mapped again is what was there. Everything else, read-only
/// data included (the loader has written relocations into it), stays.
pub(crate) fn release() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let text = maps
        .lines()
        .filter_map(parse)
        .filter(|mapping| mapping.executable && Some(mapping.path) == program.to_str());
    for mapping in text {
        let Some(start) = NonNull::new(mapping.start as *mut c_void) else {
            continue;
        };
        #[expect(unsafe_code, reason = "madvise has no safe form")]
        // SAFETY: the range is one mapping of this program's own file, private,
        // executable and not writable, so no page of it differs from the file
        // and dropping them changes nothing that can be read or executed.
        unsafe {
            madvise(start, mapping.length, MmapAdvise::MADV_DONTNEED)?;
        }
    }
    Ok(())
}

struct Mapping<'a> {
    start: usize,
    length: usize,
    executable: bool,
    path: &'a str,
}

/// A line of `/proc/pid/maps` (`proc(5)`) that maps a file.
fn parse(line: &str) -> Option<Mapping<'_>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some(Mapping {
        start,
        length: end.checked_sub(start)?,
        executable: permissions == "r-xp",
        path: line.get(line.find('/')?..)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{parse, release};

    #[test]
    fn the_text_is_told_from_everything_else() {
        let text = parse("55d0c7a00000-55d0c7b80000 r-xp 00044000 08:01 131 /usr/bin/coracle-shim");
        let text = text.expect("a mapping of a file");
        assert_eq!(text.start, 0x55d0_c7a0_0000);
        assert_eq!(text.length, 0x18_0000);
        assert!(text.executable);
        assert_eq!(text.path, "/usr/bin/coracle-shim");
        let data = parse("55d0c7b80000-55d0c7b90000 r--p 001c4000 08:01 131 /usr/bin/coracle-shim");
        assert!(!data.expect("a mapping of a file").executable);
        assert!(parse("7ffd2a3f1000-7ffd2a412000 rw-p 00000000 00:00 0 [stack]").is_none());
        assert!(parse("").is_none());
    }

    #[test]
    fn the_program_goes_on_without_its_text_in_memory() {
        let before = format!("{:?}", std::time::Duration::from_millis(1500));
        release().expect("the text can be given back");
        assert_eq!(
            format!("{:?}", std::time::Duration::from_millis(1500)),
            before
        );
    }
}
