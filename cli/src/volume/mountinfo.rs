//! `/proc/self/mountinfo` (proc(5)): what is mounted where, from which device.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The mounts of this process's mount namespace.
pub(crate) const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Numbers of the file system's device, as `MAJOR:MINOR`.
    pub(crate) device: String,
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// What was mounted: a device's path, or any word.
    pub(crate) source: PathBuf,
}

/// All mounts, in the order they were made.
pub(crate) fn mounts() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read(MOUNTINFO)?))
}

/// The mount points at and below a directory, the last mounted first: the
/// order in which they can be unmounted.
pub(crate) fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let points = mounts()?.into_iter().map(|mount| mount.point);
    let mut points: Vec<_> = points.filter(|point| point.starts_with(dir)).collect();
    points.reverse();
    Ok(points)
}

fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = String::from_utf8(fields.nth(2)?.to_vec()).ok()?;
    let point = path(fields.nth(1)?);
    // Optional fields follow, as many as there are, ended by a dash.
    let mut after_dash = fields.skip_while(|field| *field != b"-").skip(2);
    let source = path(after_dash.next()?);
    Some(Mount {
        device,
        point,
        source,
    })
}

/// Blanks and backslashes are written as three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_optional_fields_and_escapes_are_read() {
        let text =
            b"36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime master:1 shared:2 - ext3 /dev/root rw\n\
                     37 35 0:5 / /proc rw - proc proc rw\n\
                     broken\n";
        let read = parse(text);
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].device, "98:0");
        assert_eq!(read[0].point, Path::new("/mnt 2\\x"));
        assert_eq!(read[0].source, Path::new("/dev/root"));
        assert_eq!(read[1].source, Path::new("proc"));
    }
}
