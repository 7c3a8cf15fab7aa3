//! How far an import is: counted by the threads that work, told by the one
//! that watches.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Counters.
#[derive(Debug, Default)]
pub struct Progress {
    source: AtomicU64,
    source_total: AtomicU64,
    disk: AtomicU64,
    disk_total: AtomicU64,
}

impl Progress {
    pub(crate) fn add_source(&self, bytes: u64) {
        self.source.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_disk(&self, bytes: u64) {
        self.disk.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A stream of this size, when it is known, is read from its start.
    pub(crate) fn begin_source(&self, total: Option<u64>) {
        self.source.store(0, Ordering::Relaxed);
        self.source_total
            .store(total.unwrap_or_default(), Ordering::Relaxed);
    }

    pub(crate) fn begin_disk(&self, total: u64) {
        self.disk_total.store(total, Ordering::Relaxed);
    }

    /// What there is to tell after this time.
    #[must_use]
    pub fn at(&self, elapsed: Duration) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // A stream tells how much is left; of a file the disk does.
        let (done, total) = match read(&self.source_total) {
            0 if read(&self.disk_total) == 0 => (read(&self.source), 0),
            0 => (read(&self.disk), read(&self.disk_total)),
            total => (read(&self.source), total),
        };
        Snapshot {
            done,
            total: (total > 0).then_some(total),
            written: read(&self.disk),
            elapsed,
        }
    }
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Bytes done.
    pub done: u64,
    /// Bytes to do, where that is known.
    pub total: Option<u64>,
    /// Bytes of the disk, holes among them.
    pub written: u64,
    /// Since the start.
    pub elapsed: Duration,
}

impl Snapshot {
    /// Bytes per second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        let millis = self.elapsed.as_millis().max(1);
        u64::try_from(u128::from(self.done) * 1000 / millis).unwrap_or(u64::MAX)
    }

    /// Seconds until it is done, at this rate.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        let left = self.total?.saturating_sub(self.done);
        (self.rate() > 0).then(|| left.div_ceil(self.rate()))
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        match self.total {
            Some(total) if total > 0 => {
                let percent = u128::from(self.done.min(total)) * 100 / u128::from(total);
                write!(f, "{percent} %, {} of {} MiB", mib(self.done), mib(total))?;
            }
            _ => write!(f, "{} MiB", mib(self.done))?,
        }
        write!(f, ", {} MiB/s", mib(self.rate()))?;
        match self.remaining() {
            Some(seconds) if seconds >= 3600 => {
                write!(f, ", {} h {} min left", seconds / 3600, seconds / 60 % 60)
            }
            Some(seconds) if seconds >= 60 => {
                write!(f, ", {} min {} s left", seconds / 60, seconds % 60)
            }
            Some(seconds) => write!(f, ", {seconds} s left"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_rate_and_remaining_time_where_the_end_is_known() {
        let progress = Progress::default();
        progress.begin_source(Some(100 << 20));
        progress.add_source(25 << 20);
        let text = progress.at(Duration::from_secs(5)).to_string();
        assert_eq!(text, "25 %, 25 of 100 MiB, 5 MiB/s, 15 s left");
        progress.begin_source(None);
        progress.add_source(3 << 20);
        let text = progress.at(Duration::from_secs(1)).to_string();
        assert_eq!(text, "3 MiB, 3 MiB/s");
        progress.begin_disk(1 << 40);
        progress.add_disk(1 << 30);
        let text = progress.at(Duration::from_secs(10)).to_string();
        assert_eq!(text, "0 %, 1024 of 1048576 MiB, 102 MiB/s, 2 h 50 min left");
    }
}
