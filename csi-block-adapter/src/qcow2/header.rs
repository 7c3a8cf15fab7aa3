//! The header of a qcow2 image. Pure.

use super::{ENTRY, MAGIC};

/// Bytes of a version 2 header, and of what every version 3 header has.
const V2_LEN: usize = 72;
const V3_LEN: usize = 104;
/// Most entries of the first table that are read: 8 MiB of it. With the usual
/// 64 KiB clusters that is a disk of 512 TiB.
const MAX_L1: u64 = 1 << 20;
/// Incompatible feature bits.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// Why a qcow2 image is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Qcow2Error {
    /// It does not begin as one.
    #[error("it has no qcow2 header")]
    NoHeader,
    /// Neither version 2 nor 3.
    #[error("its version is {version}: only 2 and 3 are read")]
    Version {
        /// What it says.
        version: u32,
    },
    /// It is the difference to another image.
    #[error(
        "it has a backing file: flatten it with qemu-img convert, which writes one image with all \
         the data"
    )]
    BackingFile,
    /// Its data is elsewhere.
    #[error("its data is in another file: flatten it with qemu-img convert")]
    DataFile,
    /// It is encrypted.
    #[error("it is encrypted: decrypt it with qemu-img convert")]
    Encrypted,
    /// It was not closed.
    #[error("it was not closed properly (dirty): repair it with qemu-img check -r all")]
    Dirty,
    /// qemu found it broken.
    #[error("it is marked corrupt: repair it with qemu-img check -r all")]
    Corrupt,
    /// Subclusters.
    #[error("it has extended L2 entries: rewrite it with qemu-img convert -O qcow2")]
    ExtendedL2,
    /// Features that this program does not know.
    #[error("it needs features that are not known here (bits {bits:#x})")]
    Features {
        /// The bits.
        bits: u64,
    },
    /// Neither zlib nor zstd.
    #[error("its compression type {kind} is not known: zlib (0) and zstd (1) are")]
    Compression {
        /// What it says.
        kind: u8,
    },
    /// A field has a value that it cannot have.
    #[error("its {field} is wrong: {value:#x}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// It would need too large a first table.
    #[error("its first table needs {entries} entries: use larger clusters")]
    TooManyTables {
        /// How many.
        entries: u64,
    },
    /// Two entries lead to one place.
    #[error("two of its table entries lead to byte {offset}: repair it with qemu-img check")]
    Shared {
        /// Where.
        offset: u64,
    },
    /// A compressed cluster does not unpack.
    #[error("its compressed cluster for byte {at} of the disk does not unpack")]
    Cluster {
        /// Place on the disk.
        at: u64,
    },
    /// Its tables are too scattered to be read in one direction.
    #[error("its tables are too scattered to be read from a stream: give it as a file")]
    Scattered,
}

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressor {
    /// Raw deflate.
    Zlib,
    /// zstd.
    Zstd,
}

/// What is needed of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Binary logarithm of the cluster size, 9 to 21.
    pub cluster_bits: u32,
    /// Size of the disk in bytes.
    pub size: u64,
    /// Where the first table is.
    pub l1_offset: u64,
    /// How many of its entries the disk needs.
    pub l1_entries: u64,
    /// How clusters are compressed.
    pub compressor: Compressor,
}

impl Header {
    /// Reads the first bytes of an image.
    pub fn parse(bytes: &[u8]) -> Result<Self, Qcow2Error> {
        if !bytes.starts_with(&MAGIC) || bytes.len() < V2_LEN {
            return Err(Qcow2Error::NoHeader);
        }
        let version = be32(bytes, 4);
        let compressor = match version {
            2 => Compressor::Zlib,
            3 => features(bytes)?,
            version => return Err(Qcow2Error::Version { version }),
        };
        if be64(bytes, 8) != 0 || be32(bytes, 16) != 0 {
            return Err(Qcow2Error::BackingFile);
        }
        if be32(bytes, 32) != 0 {
            return Err(Qcow2Error::Encrypted);
        }
        let wrong = |field, value: u64| Err(Qcow2Error::Field { field, value });
        let cluster_bits = be32(bytes, 20);
        if !(9..=21).contains(&cluster_bits) {
            return wrong("cluster size", cluster_bits.into());
        }
        let size = be64(bytes, 24);
        if size == 0 || size > i64::MAX as u64 {
            return wrong("size", size);
        }
        // Bytes that one second table maps.
        let reach = 1 << (2 * cluster_bits - 3);
        let l1_entries = size.div_ceil(reach);
        if l1_entries > MAX_L1 {
            return Err(Qcow2Error::TooManyTables {
                entries: l1_entries,
            });
        }
        let l1_size = u64::from(be32(bytes, 36));
        if l1_size < l1_entries {
            return wrong("number of L1 entries", l1_size);
        }
        let l1_offset = be64(bytes, 40);
        let end = l1_offset.checked_add(l1_entries * ENTRY);
        if l1_offset == 0
            || !l1_offset.is_multiple_of(1 << cluster_bits)
            || end.is_none_or(|end| end > i64::MAX as u64)
        {
            return wrong("L1 offset", l1_offset);
        }
        Ok(Self {
            version,
            cluster_bits,
            size,
            l1_offset,
            l1_entries,
            compressor,
        })
    }

    /// Size of a cluster in bytes.
    #[must_use]
    pub fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of the disk that one second table maps.
    #[must_use]
    pub fn reach(&self) -> u64 {
        1 << (2 * self.cluster_bits - 3)
    }
}

/// The feature bits of version 3, and the compression type they announce.
fn features(bytes: &[u8]) -> Result<Compressor, Qcow2Error> {
    if bytes.len() < V3_LEN {
        return Err(Qcow2Error::NoHeader);
    }
    let bits = be64(bytes, 72);
    for (bit, error) in [
        (CORRUPT, Qcow2Error::Corrupt),
        (DIRTY, Qcow2Error::Dirty),
        (DATA_FILE, Qcow2Error::DataFile),
        (EXTENDED_L2, Qcow2Error::ExtendedL2),
    ] {
        if bits & bit != 0 {
            return Err(error);
        }
    }
    let unknown = bits & !COMPRESSION;
    if unknown != 0 {
        return Err(Qcow2Error::Features { bits: unknown });
    }
    let length = be32(bytes, 100);
    if (length as usize) < V3_LEN || !length.is_multiple_of(8) {
        return Err(Qcow2Error::Field {
            field: "header length",
            value: length.into(),
        });
    }
    let kind = match bytes.get(V3_LEN) {
        Some(kind) if length as usize > V3_LEN => *kind,
        _ => 0,
    };
    match (bits & COMPRESSION != 0, kind) {
        (false, 0) => Ok(Compressor::Zlib),
        (true, 1) => Ok(Compressor::Zstd),
        (_, kind) => Err(Qcow2Error::Compression { kind }),
    }
}

/// A big-endian number; the caller has checked the length.
fn be32(bytes: &[u8], at: usize) -> u32 {
    let field = bytes
        .get(at..at + 4)
        .and_then(|field| field.try_into().ok());
    u32::from_be_bytes(field.unwrap_or_default())
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    let field = bytes
        .get(at..at + 8)
        .and_then(|field| field.try_into().ok());
    u64::from_be_bytes(field.unwrap_or_default())
}
