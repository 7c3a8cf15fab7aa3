//! Versions of VMs that this process itself has replaced.
//!
//! After a status is written, the VM in the cache is the old one for some
//! milliseconds. A look at it would come to a status that is there already,
//! and a write that the API server refuses. The change is on its way, and
//! brings the VM back.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The version of each VM that its last write replaced, until the cache has a
/// later one.
#[derive(Debug, Default)]
pub struct Superseded(Mutex<HashMap<(String, String), String>>);

impl Superseded {
    /// A write replaced this version by that one.
    pub fn replaced(&self, key: (String, String), old: &str, new: &str) {
        // A write that changes nothing brings no event.
        if old != new {
            let mut versions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            versions.insert(key, old.to_owned());
        }
    }

    /// Whether this version was replaced.
    #[must_use]
    pub fn holds(&self, key: &(String, String), version: &str) -> bool {
        let mut versions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = versions.get(key).is_some_and(|old| old == version);
        if !held {
            versions.remove(key);
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::Superseded;

    #[test]
    fn a_version_is_superseded_until_a_later_one_is_seen() {
        let versions = Superseded::default();
        let key = ("shop".to_owned(), "web".to_owned());
        versions.replaced(key.clone(), "7", "8");
        assert!(versions.holds(&key, "7"));
        assert!(!versions.holds(&key, "8"));
        assert!(
            !versions.holds(&key, "7"),
            "forgotten once a later one came"
        );
        versions.replaced(key.clone(), "8", "8");
        assert!(!versions.holds(&key, "8"), "nothing was changed");
    }
}
