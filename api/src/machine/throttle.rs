//! The limits of a disk.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// The most that a disk may do. Of requests and of bytes, either the total is
/// limited or reads and writes by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Throttle {
    /// Requests per second.
    #[serde(default, skip_serializing_if = "Rate::is_none")]
    pub iops: Rate,
    /// Bytes per second.
    #[serde(default, skip_serializing_if = "Rate::is_none")]
    pub bytes: Rate,
    /// What a disk that was idle may do at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
}

/// A limit per second. Zero is no limit to qemu, and so is not one here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Of reads and writes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<NonZeroU64>,
    /// Of reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<NonZeroU64>,
    /// Of writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<NonZeroU64>,
}

impl Rate {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether qemu can have it: not the total and a part of it at once.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.total.is_none() || self.read.is_none() && self.write.is_none()
    }
}

/// How far beyond its limits a disk may go for a while, once it was idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub struct Burst {
    /// How many times the limits.
    #[cfg_attr(feature = "kube", schemars(range(min = 2, max = 100)))]
    pub factor: u32,
    /// For how many seconds.
    #[cfg_attr(feature = "kube", schemars(range(min = 1, max = 3600)))]
    pub seconds: u32,
}
