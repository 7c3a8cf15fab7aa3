//! Reading qcow2 images, whose headers `crate::qcow2` knows.
//!
//! - `table`: entries of the L1 and L2 tables
//! - `convert`: walks the tables and hands out clusters
//! - `stream`: the same in one direction only
//! - `inflate`: compressed clusters
//!
//! Images come from strangers: `table` is pure, allocates nothing that an
//! image decides, and refuses instead of guessing.

pub(crate) mod convert;
pub(crate) mod inflate;
pub(crate) mod stream;
mod table;

pub use self::table::{L2Entry, l1_entry, l2_entry};
pub use crate::qcow2::{Compressor, Header, Qcow2Error};

pub(crate) use crate::qcow2::{ENTRY, MAGIC};
pub(crate) const ENTRY_BYTES: usize = 8;
