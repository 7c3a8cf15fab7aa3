//! The qcow2 format, versions 2 and 3 (qemu's docs/interop/qcow2.txt).
//!
//! - `header`: what the first bytes say; refuses everything that this module
//!   does not do
//! - `table`: entries of the L1 and L2 tables
//! - `convert`: walks the tables and hands out clusters
//! - `stream`: the same in one direction only
//! - `inflate`: compressed clusters
//!
//! Images come from strangers: `header` and `table` are pure, allocate
//! nothing that an image decides, and refuse instead of guessing.

pub(crate) mod convert;
mod header;
pub(crate) mod inflate;
pub(crate) mod stream;
mod table;

pub use self::{
    header::{Compressor, Header, Qcow2Error},
    table::{L2Entry, l1_entry, l2_entry},
};

/// The first bytes of a qcow2 image.
pub(crate) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Bytes of an entry of either table.
pub(crate) const ENTRY: u64 = ENTRY_BYTES as u64;
pub(crate) const ENTRY_BYTES: usize = 8;
