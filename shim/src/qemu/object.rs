//! `-object`: what devices refer to.

use serde::Serialize;

use super::switch::{Switch, json};

/// Id of the guest's memory.
pub(crate) const MEMORY: &str = "ram0";

/// `-object`
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "qom-type", rename_all = "kebab-case")]
pub(crate) enum Object {
    /// Anonymous memory: counted as the container's own, in huge pages where
    /// the host has them, and given back when the guest frees it. (A memfd is
    /// needed only to share it with another process; private, it would hold
    /// pages twice.)
    MemoryBackendRam {
        /// [`MEMORY`].
        id: &'static str,
        /// In bytes.
        size: u64,
    },
    /// A thread that does a disk's I/O.
    Iothread {
        /// `iothread<index>`, which the disk's device refers to.
        id: String,
    },
}

impl Object {
    pub(crate) fn memory(size: u64) -> Self {
        Self::MemoryBackendRam { id: MEMORY, size }
    }

    pub(crate) fn iothread(id: &str) -> Self {
        Self::Iothread { id: id.to_owned() }
    }
}

impl Switch for Object {
    fn name(&self) -> &'static str {
        "-object"
    }

    fn value(&self) -> Option<String> {
        Some(json(self))
    }
}
