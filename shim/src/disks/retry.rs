//! When a guest that waits for a disk is let try again. Pure: time comes in.
//!
//! A try loses nothing: the requests that failed are qemu's, and it sends them
//! once more. So it needs nobody who knows that a disk is well again: an outage
//! of the storage ends, and all its guests go on.

use std::time::{Duration, Instant};

/// Pauses between the tries; the last one is kept to.
const PAUSES: [u64; 9] = [1, 2, 4, 8, 16, 30, 60, 120, 300];
/// How many of them there are for space, which somebody is about to make.
const FOR_SPACE: usize = 6;
/// A guest that ran this long without an error has a disk that is well.
const WELL: Duration = Duration::from_secs(60);

/// The tries so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Retry {
    tries: usize,
    at: Option<Instant>,
    last: Option<Instant>,
    /// Whether something else than space is missing.
    broken: bool,
}

impl Retry {
    /// When the next try is due, if the guest waits for a disk.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// The guest was stopped on an error.
    pub(super) fn failed(&mut self, no_space: bool, now: Instant) {
        // Several requests fail together; one pause is enough for them.
        if self.at.is_some() {
            self.broken |= !no_space;
            return;
        }
        if self.last.is_none_or(|last| now > last + WELL) {
            self.tries = 0;
        }
        self.broken = !no_space;
        self.put_off(now);
    }

    /// There still is no room.
    pub(super) fn put_off(&mut self, now: Instant) {
        let most = if self.broken { PAUSES.len() } else { FOR_SPACE };
        let pause = PAUSES[self.tries.min(most - 1)];
        self.tries += 1;
        self.at = Some(now + Duration::from_secs(pause));
    }

    /// The guest is let try.
    pub(super) fn tried(&mut self, now: Instant) {
        self.at = None;
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Instant {
        Instant::now()
    }

    fn pause(retry: &Retry, now: Instant) -> u64 {
        (retry.at().expect("waits") - now).as_secs()
    }

    /// The pauses of so many tries that fail, one after another.
    fn pauses(retry: &mut Retry, no_space: bool, now: &mut Instant, tries: usize) -> Vec<u64> {
        let mut pauses = Vec::new();
        for _ in 0..tries {
            retry.failed(no_space, *now);
            // The other requests that were under way.
            retry.failed(no_space, *now);
            pauses.push(pause(retry, *now));
            *now = retry.at().expect("waits");
            retry.tried(*now);
        }
        pauses
    }

    #[test]
    fn pauses_grow_while_there_is_no_room_and_begin_anew_after_that() {
        let mut now = origin();
        let mut retry = Retry::default();
        let grown = pauses(&mut retry, true, &mut now, 8);
        assert_eq!(grown, [1, 2, 4, 8, 16, 30, 30, 30]);
        now += WELL + Duration::from_secs(1);
        retry.failed(true, now);
        assert_eq!(pause(&retry, now), 1);
    }

    #[test]
    fn a_disk_that_is_broken_is_tried_less_and_less() {
        let mut now = origin();
        let mut retry = Retry::default();
        let grown = pauses(&mut retry, false, &mut now, 10);
        assert_eq!(grown, [1, 2, 4, 8, 16, 30, 60, 120, 300, 300]);
        // Space is missing now, and will be there sooner.
        assert_eq!(pauses(&mut retry, true, &mut now, 1), [30]);
    }

    #[test]
    fn a_try_is_put_off_while_there_is_no_room() {
        let now = origin();
        let mut retry = Retry::default();
        assert_eq!(retry.at(), None);
        retry.failed(true, now);
        retry.put_off(now);
        assert_eq!(pause(&retry, now), 2);
    }
}
