//! What is kept of cluster-wide objects that are read and never written:
//! volumes, storage classes, CSI drivers. The facts and not the objects, so
//! that ten thousand volumes take little.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::runtime::watcher::Event;

use super::gate::Gate;

/// Facts of one kind of object, by the object's name. Equal facts are kept
/// once: most volumes of a cluster are alike in all but their name.
#[derive(Debug)]
pub struct Kept<F> {
    maps: Mutex<Maps<F>>,
    listed: Gate,
}

#[derive(Debug)]
struct Maps<F> {
    facts: HashMap<Box<str>, Arc<F>>,
    /// What a list under way has shown.
    listing: HashMap<Box<str>, Arc<F>>,
    distinct: HashSet<Arc<F>>,
}

impl<F> Default for Kept<F> {
    fn default() -> Self {
        Self {
            maps: Mutex::new(Maps {
                facts: HashMap::new(),
                listing: HashMap::new(),
                distinct: HashSet::new(),
            }),
            listed: Gate::default(),
        }
    }
}

impl<F: Eq + Hash> Kept<F> {
    /// Takes in what the watch saw.
    pub fn apply<K: ResourceExt>(&self, event: &Event<K>, read: impl Fn(&K) -> F) {
        let mut maps = self.lock();
        match event {
            Event::Apply(object) => {
                let facts = maps.intern(read(object));
                maps.facts.insert(object.name_any().into(), facts);
            }
            Event::Delete(object) => {
                maps.facts.remove(object.name_any().as_str());
            }
            Event::Init => maps.listing.clear(),
            Event::InitApply(object) => {
                let facts = maps.intern(read(object));
                maps.listing.insert(object.name_any().into(), facts);
            }
            Event::InitDone => {
                maps.facts = std::mem::take(&mut maps.listing);
                maps.distinct.retain(|facts| Arc::strong_count(facts) > 1);
                self.listed.open();
            }
        }
    }

    /// Returns once the first list is in.
    pub async fn ready(&self) {
        self.listed.opened().await;
    }

    /// The facts of the object with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<F>> {
        self.lock().facts.get(name).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Maps<F>> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Eq + Hash> Maps<F> {
    fn intern(&mut self, facts: F) -> Arc<F> {
        if let Some(known) = self.distinct.get(&facts) {
            return known.clone();
        }
        let facts = Arc::new(facts);
        self.distinct.insert(facts.clone());
        facts
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::watcher::Event;

    use super::Kept;

    fn object(name: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        map
    }

    #[test]
    fn a_list_replaces_what_was_known_and_equal_facts_are_one() {
        let kept: Kept<u8> = Kept::default();
        kept.apply(&Event::Apply(object("gone")), |_| 1);
        kept.apply(&Event::Init::<ConfigMap>, |_| 1);
        kept.apply(&Event::InitApply(object("a")), |_| 1);
        kept.apply(&Event::InitApply(object("b")), |_| 1);
        assert!(kept.get("a").is_none(), "not before the list is whole");
        kept.apply(&Event::InitDone::<ConfigMap>, |_| 1);
        let (a, b) = (kept.get("a").expect("a"), kept.get("b").expect("b"));
        assert!(std::sync::Arc::ptr_eq(&a, &b));
        assert!(kept.get("gone").is_none());
        kept.apply(&Event::Delete(object("a")), |_| 1);
        assert!(kept.get("a").is_none());
    }
}
