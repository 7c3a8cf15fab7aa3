//! When a guest that waits for space is let try again. Pure: time comes in.

use std::time::{Duration, Instant};

/// Pauses between the tries; the last one is kept to.
const PAUSES: [u64; 6] = [1, 2, 4, 8, 16, 30];
/// A guest that ran this long without an error has had room.
const WELL: Duration = Duration::from_secs(60);

/// The tries so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Retry {
    tries: usize,
    at: Option<Instant>,
    last: Option<Instant>,
}

impl Retry {
    /// When the next try is due, if the guest waits for space.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// The guest was stopped on an error. Only for space it is worth trying
    /// by itself: another error takes somebody to mend it.
    pub(super) fn failed(&mut self, no_space: bool, now: Instant) {
        if !no_space {
            self.at = None;
            return;
        }
        // Several requests fail together; one pause is enough for them.
        if self.at.is_some() {
            return;
        }
        if self.last.is_none_or(|last| now > last + WELL) {
            self.tries = 0;
        }
        self.put_off(now);
    }

    /// There still is no room.
    pub(super) fn put_off(&mut self, now: Instant) {
        let pause = PAUSES[self.tries.min(PAUSES.len() - 1)];
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

    #[test]
    fn pauses_grow_while_there_is_no_room_and_begin_anew_after_that() {
        let mut now = origin();
        let mut retry = Retry::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            retry.failed(true, now);
            // The other requests that were under way.
            retry.failed(true, now);
            pauses.push(pause(&retry, now));
            now = retry.at().expect("waits");
            retry.tried(now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        now += WELL + Duration::from_secs(1);
        retry.failed(true, now);
        assert_eq!(pause(&retry, now), 1);
    }

    #[test]
    fn only_missing_space_is_worth_a_try() {
        let now = origin();
        let mut retry = Retry::default();
        retry.failed(false, now);
        assert_eq!(retry.at(), None);
        retry.failed(true, now);
        retry.put_off(now);
        assert_eq!(pause(&retry, now), 2);
        retry.failed(false, now);
        assert_eq!(retry.at(), None);
    }
}
