//! A disk's limits: a `throttle-group` object and a `throttle` node above the
//! disk's own (qemu docs/throttle.txt, qapi/block-core.json `ThrottleLimits`).

use std::num::NonZeroU64;

use coracle_api::machine::{Burst, Disk, Rate, Throttle};
use serde::Serialize;

use super::{
    Place,
    blockdev::{Cache, Discard},
    node_name,
};

/// The largest number that qemu takes in a limit (`THROTTLE_VALUE_MAX`).
const MAX: u64 = 1_000_000_000_000_000;

/// What limits a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttling {
    group: Group,
    filter: Filter,
}

/// `-object throttle-group`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Group {
    qom_type: &'static str,
    id: String,
    limits: Limits,
}

/// qemu's `ThrottleLimits`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// Requests per second.
    #[serde(flatten, serialize_with = "iops")]
    pub iops: Limit,
    /// Bytes per second.
    #[serde(flatten, serialize_with = "bps")]
    pub bps: Limit,
}

/// A limit in qemu's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    rate: Rate,
    burst: Option<Burst>,
}

/// `-blockdev` with driver `throttle`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Filter {
    driver: &'static str,
    node_name: String,
    throttle_group: String,
    /// Name of the node below.
    file: String,
    /// As of the node below.
    cache: Cache,
    /// A node that has not been told so passes no discards on.
    discard: Discard,
    read_only: bool,
    auto_read_only: bool,
}

/// Name of the node below a disk's throttle filter.
pub(super) fn lower_name(place: Place) -> String {
    format!("{}-device", node_name(place.index))
}

impl Throttling {
    pub(super) fn new(throttle: &Throttle, disk: &Disk, place: Place) -> Self {
        let id = format!("throttle{}", place.index);
        let limit = |rate| Limit {
            rate,
            burst: throttle.burst,
        };
        Self {
            group: Group {
                qom_type: "throttle-group",
                id: id.clone(),
                limits: Limits {
                    iops: limit(throttle.iops),
                    bps: limit(throttle.bytes),
                },
            },
            filter: Filter {
                driver: "throttle",
                node_name: node_name(place.index),
                throttle_group: id,
                file: lower_name(place),
                cache: Cache::of(disk),
                discard: Discard::of(disk),
                read_only: disk.read_only,
                auto_read_only: false,
            },
        }
    }

    /// The argument of `-object`.
    #[must_use]
    pub fn group_json(&self) -> String {
        json(&self.group)
    }

    /// The argument of `-blockdev`.
    #[must_use]
    pub fn filter_json(&self) -> String {
        json(&self.filter)
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and bools serialize")
}

fn iops<S: serde::Serializer>(limit: &Limit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(limit.entries("iops"))
}

fn bps<S: serde::Serializer>(limit: &Limit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(limit.entries("bps"))
}

impl Limit {
    /// qemu's fields. A burst that would be more than qemu can count, or no
    /// more than the limit, is left out.
    fn entries(self, unit: &str) -> Vec<(String, u64)> {
        let Rate { total, read, write } = self.rate;
        let mut entries = Vec::new();
        for (of, limit) in [("total", total), ("read", read), ("write", write)] {
            let Some(limit) = limit.map(NonZeroU64::get) else {
                continue;
            };
            let limit = limit.min(MAX);
            entries.push((format!("{unit}-{of}"), limit));
            let Some(burst) = self.burst else { continue };
            let seconds = u64::from(burst.seconds.max(1));
            let most = limit.saturating_mul(burst.factor.into()).min(MAX / seconds);
            if most > limit {
                entries.push((format!("{unit}-{of}-max"), most));
                entries.push((format!("{unit}-{of}-max-length"), seconds));
            }
        }
        entries
    }
}
