//! The qcow2 format, versions 2 and 3 (qemu's docs/interop/qcow2.txt), as far
//! as everything here needs it.
//!
//! - `header`: what the first bytes say; refuses everything that is not read
//!   here
//! - `writer`: makes an image, with data or without
//!
//! Images come from strangers: `header` is pure, allocates nothing that an
//! image decides, and refuses instead of guessing.

mod header;
mod writer;

pub use self::header::{Compressor, Header, Qcow2Error};
#[cfg(feature = "import")]
pub(crate) use self::writer::Cluster;
pub(crate) use self::writer::Writer;

/// The first bytes of a qcow2 image.
pub(crate) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Bytes of an entry of either table.
pub(crate) const ENTRY: u64 = 8;
