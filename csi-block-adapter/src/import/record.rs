//! The record that a target was filled.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use super::{Outcome, error::ImportError};

/// Says that the disk is filled, but for its first sector: as long as that one
/// is missing, the record does not count.
pub(super) fn write(path: &Path, outcome: &Outcome) -> Result<(), ImportError> {
    let write = || {
        let text = serde_json::to_string(outcome).map_err(io::Error::other)?;
        let mut file = fs::File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        parent.map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
    };
    write().map_err(|source| ImportError::Target {
        target: path.display().to_string(),
        doing: "write the record",
        source,
    })
}
