//! What an image's first bytes say of its format. Pure; looked at only in what
//! no guest has written, because a guest can write any bytes.

/// How a source is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
    Xz,
}

impl Compression {
    /// Tells from a source's first bytes.
    pub(crate) fn detect(head: &[u8]) -> Option<Self> {
        if head.starts_with(&[0x1f, 0x8b, 8]) {
            Some(Self::Gzip)
        } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Some(Self::Zstd)
        } else if head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Some(Self::Xz)
        } else {
            None
        }
    }

    /// What packs so.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
        }
    }
}

/// Refuses what is a disk image in a format that is not read.
pub(crate) fn foreign_format(head: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|s| s.starts_with(magic));
    let known: [(usize, &[u8], &str); 7] = [
        (0, b"KDMV", "VMDK"),
        (0, b"# Disk DescriptorFile", "VMDK"),
        (0, b"vhdxfile", "VHDX"),
        (0, b"conectix", "VHD"),
        (0x40, &[0x7f, 0x10, 0xda, 0xbe], "VDI"),
        (0, b"QED\0", "QED"),
        (0, b"LUKS\xba\xbe\0\x01qcow", "LUKS"),
    ];
    known
        .iter()
        .find(|(offset, magic, _)| at(*offset, magic))
        .map(|(_, _, name)| *name)
}
