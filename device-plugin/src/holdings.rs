//! Who was given what can be given to one container only: IOMMU groups, USB
//! devices, character devices without slots. Pure.
//!
//! The kubelet gives out device names, each once; it does not know that two
//! names lead to one thing. Two functions share an IOMMU group, or the admin
//! moved a device to another resource while a pod has it. And it never says
//! that a container has ended. So what is known is:
//!
//! - what `Allocate` gave out;
//! - that a container is gone when a name of its own is given out again;
//! - what is in use, as the kubelet's pod-resources service lists it.
//!
//! Without the last, a group is offered by one of its names alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::listing::Key;

/// How long after an answer to `Allocate` the kubelet may not list its device
/// as in use yet.
const LISTED_WITHIN: Duration = Duration::from_secs(10);

/// Devices in use, by resource and name.
pub(crate) type InUse = BTreeSet<(String, String)>;

/// Who has something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The resource by which it was given.
    pub(crate) resource: String,
    /// The names under which it was.
    pub(crate) ids: BTreeSet<String>,
    /// When it was.
    given: Instant,
}

/// Who has what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    holders: BTreeMap<Key, Holder>,
    /// Whether what is in use was ever learnt.
    known: bool,
}

impl Holdings {
    /// Whether it is known what is in use, so that who holds nothing any more
    /// is forgotten.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// Who has it.
    pub(crate) fn holder(&self, key: &Key) -> Option<&Holder> {
        self.holders.get(key)
    }

    /// The names under which a resource is held.
    pub(crate) fn ids<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a str> {
        let holders = self
            .holders
            .values()
            .filter(move |holder| holder.resource == resource);
        holders.flat_map(|holder| holder.ids.iter().map(String::as_str))
    }

    /// Who has it and would have to share it with one that is given `ids`.
    pub(crate) fn conflict(
        &self,
        key: &Key,
        resource: &str,
        ids: &BTreeSet<String>,
    ) -> Option<&Holder> {
        let holder = self.holders.get(key)?;
        let again = holder.resource == resource && !holder.ids.is_disjoint(ids);
        (!again).then_some(holder)
    }

    /// It is given out.
    pub(crate) fn take(&mut self, key: Key, resource: &str, ids: BTreeSet<String>, now: Instant) {
        let holder = Holder {
            resource: resource.to_owned(),
            ids,
            given: now,
        };
        self.holders.insert(key, holder);
    }

    /// The kubelet's list of what is in use, asked for at `asked`. Returns
    /// whether that changed anything.
    pub(crate) fn observe(
        &mut self,
        in_use: &InUse,
        asked: Instant,
        key_of: impl Fn(&str, &str) -> Option<Key>,
    ) -> bool {
        let before = self.clone();
        self.known = true;
        self.holders.retain(|_, holder| {
            let named = |id: &String| in_use.contains(&(holder.resource.clone(), id.clone()));
            asked < holder.given + LISTED_WITHIN || holder.ids.iter().any(named)
        });
        let mut found: BTreeMap<Key, Holder> = BTreeMap::new();
        for (resource, id) in in_use {
            let Some(key) = key_of(resource, id) else {
                continue;
            };
            let holder = found.entry(key).or_insert_with(|| Holder {
                resource: resource.clone(),
                ids: BTreeSet::new(),
                given: asked,
            });
            if holder.resource == *resource {
                holder.ids.insert(id.clone());
            }
        }
        for (key, holder) in found {
            self.holders.entry(key).or_insert(holder);
        }
        *self != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Key = Key::Group(7);

    fn ids(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn in_use(devices: &[(&str, &str)]) -> InUse {
        let owned = |(resource, id): &(&str, &str)| ((*resource).to_owned(), (*id).to_owned());
        devices.iter().map(owned).collect()
    }

    fn group(_: &str, id: &str) -> Option<Key> {
        (!id.is_empty()).then_some(GROUP)
    }

    #[test]
    fn a_group_is_refused_until_one_of_its_names_is_given_out_again() {
        let mut holdings = Holdings::default();
        let now = Instant::now();
        holdings.take(GROUP, "a", ids(&["0", "1"]), now);
        assert!(holdings.conflict(&GROUP, "a", &ids(&["2"])).is_some());
        assert!(holdings.conflict(&GROUP, "b", &ids(&["0"])).is_some());
        assert!(holdings.conflict(&GROUP, "a", &ids(&["1"])).is_none());
        assert!(
            holdings
                .conflict(&Key::Group(8), "a", &ids(&["2"]))
                .is_none()
        );
    }

    #[test]
    fn what_the_kubelet_lists_decides_but_not_on_what_it_cannot_list_yet() {
        let mut holdings = Holdings::default();
        let start = Instant::now();
        holdings.take(GROUP, "a", ids(&["0"]), start);
        assert!(holdings.observe(&in_use(&[]), start, group));
        assert!(holdings.is_known());
        assert!(holdings.holder(&GROUP).is_some(), "just given out");
        let later = start + LISTED_WITHIN;
        let used = in_use(&[("a", "0"), ("c", "9")]);
        assert!(!holdings.observe(&used, later, |r, _| (r == "a").then_some(GROUP)));
        assert!(holdings.observe(&in_use(&[]), later, group));
        assert_eq!(holdings.holder(&GROUP), None);
    }

    #[test]
    fn a_plugin_that_was_restarted_learns_who_has_what() {
        let mut holdings = Holdings::default();
        let now = Instant::now();
        holdings.observe(&in_use(&[("a", "0"), ("a", "1")]), now, group);
        let holder = holdings.holder(&GROUP).expect("in use");
        assert_eq!(
            (holder.resource.as_str(), &holder.ids),
            ("a", &ids(&["0", "1"]))
        );
    }
}
