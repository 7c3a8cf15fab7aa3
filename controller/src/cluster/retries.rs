//! When to look again at VMs that could not be looked at.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);

/// How long each VM that could not be looked at waits: twice as long each
/// time, so that a broken one leaves room for the others.
#[derive(Debug, Default)]
pub struct Retries(Mutex<HashMap<(String, String), u32>>);

impl Retries {
    /// The next wait of a VM.
    #[must_use]
    pub fn next(&self, key: (String, String)) -> Duration {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        let wait = FIRST.saturating_mul(1 << (*count).min(10));
        *count = count.saturating_add(1);
        wait.min(LONGEST)
    }

    /// A look succeeded.
    pub fn forget(&self, key: &(String, String)) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_after_a_success() {
        let retries = Retries::default();
        let key = ("shop".to_owned(), "web".to_owned());
        assert_eq!(retries.next(key.clone()), FIRST);
        assert_eq!(retries.next(key.clone()), FIRST * 2);
        for _ in 0..20 {
            assert!(retries.next(key.clone()) <= LONGEST);
        }
        assert_eq!(retries.next(key.clone()), LONGEST);
        retries.forget(&key);
        assert_eq!(retries.next(key), FIRST);
    }
}
