//! Images that are not raw, found by their first bytes.
//!
//! A volume is raw bytes. An image in a format of its own would be shown to
//! the guest as it is, which then sees garbage instead of its disk, and no
//! error names the cause; so such an image is refused. Block devices are not
//! looked at: whoever wrote to one knew what the bytes are.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use coracle_api::names::DISK_IMAGE;

use super::VolumeError;

/// Offset and bytes that begin a format.
const FORMATS: &[(&str, usize, &[u8])] = &[
    ("qcow2", 0, b"QFI\xfb"),
    ("qed", 0, b"QED\0"),
    ("VMDK", 0, b"KDMV"),
    ("VMDK", 0, b"# Disk DescriptorFile"),
    ("VHDX", 0, b"vhdxfile"),
    ("VHD", 0, b"conectix"),
    ("VDI", 0x40, b"\x7f\x10\xda\xbe"),
    ("gzip-compressed", 0, b"\x1f\x8b\x08"),
    ("xz-compressed", 0, b"\xfd7zXZ\0"),
    ("zstd-compressed", 0, b"\x28\xb5\x2f\xfd"),
];

/// Refuses an image file that is not raw.
pub(super) fn check(claim: &str, path: &Path) -> Result<(), VolumeError> {
    let head = head(path).map_err(|source| VolumeError::Inaccessible {
        claim: claim.into(),
        path: path.into(),
        source,
    })?;
    match format(&head) {
        Some(format) => Err(VolumeError::Format {
            claim: claim.into(),
            path: path.into(),
            format,
        }),
        None => Ok(()),
    }
}

/// The same for the image in a directory, where there is one.
pub(super) fn check_in_directory(claim: &str, dir: &Path) -> Result<(), VolumeError> {
    let image = dir.join(DISK_IMAGE);
    if image.is_file() {
        check(claim, &image)
    } else {
        Ok(())
    }
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(512).read_to_end(&mut head)?;
    Ok(head)
}

fn format(head: &[u8]) -> Option<&'static str> {
    let begins = |(_, at, magic): &&(&str, usize, &[u8])| {
        head.get(*at..)
            .is_some_and(|bytes| bytes.starts_with(magic))
    };
    FORMATS.iter().find(begins).map(|(name, ..)| *name)
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn raw_disks_are_not_mistaken() {
        let mut mbr = [0; 512];
        mbr[510..].copy_from_slice(b"\x55\xaa");
        assert_eq!(format(&mbr), None);
        assert_eq!(format(b""), None);
        assert_eq!(format(b"QFI"), None);
        assert_eq!(format(b"QFI\xfb\0\0\0\x03"), Some("qcow2"));
        let mut vdi = [0; 512];
        vdi[0x40..0x44].copy_from_slice(b"\x7f\x10\xda\xbe");
        assert_eq!(format(&vdi), Some("VDI"));
    }
}
