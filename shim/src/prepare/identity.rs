//! Whether each block device is still the one that was mapped into the pod.
//!
//! The container of a pod is started again in place, with the nodes of its
//! devices as they were; what is behind such a node may be another disk by
//! then, attached under the same numbers. The first start of a pod writes down
//! which devices it found, in the runtime directory, which lasts as long as the
//! pod; the later ones compare. Numbers of another boot say nothing.

use std::{collections::BTreeMap, fs, io, path::Path};

use coracle_block::device::{DeviceError, DeviceFacts, Kind};
use serde::{Deserialize, Serialize};

/// File in the runtime directory.
const FILE: &str = "devices.json";
/// What changes with every boot of the node.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What was found before, and is found now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    boot_id: String,
    devices: BTreeMap<String, Identity>,
}

/// Which device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    major: u64,
    minor: u64,
    sequence: Option<u64>,
}

impl Record {
    /// What an earlier start of this pod wrote down, if it was in this boot.
    pub(super) fn read(run_dir: &Path) -> Self {
        let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default();
        let text = fs::read(run_dir.join(FILE)).unwrap_or_default();
        let record: Self = serde_json::from_slice(&text).unwrap_or_default();
        if record.boot_id == boot_id {
            return record;
        }
        Self {
            boot_id,
            devices: BTreeMap::new(),
        }
    }

    pub(super) fn write(&self, run_dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        fs::write(run_dir.join(FILE), text)
    }

    /// Compares a disk with what it was, and notes what it is.
    pub(super) fn see(&mut self, disk: &str, facts: &DeviceFacts) -> Result<(), DeviceError> {
        let Kind::Block { major, minor } = facts.kind else {
            return Ok(());
        };
        let found = Identity {
            major,
            minor,
            sequence: facts.disk_sequence,
        };
        match self.devices.insert(disk.to_owned(), found) {
            Some(before) if before != found => Err(DeviceError::Changed {
                path: facts.path.clone(),
            }),
            Some(_) | None => Ok(()),
        }
    }
}
