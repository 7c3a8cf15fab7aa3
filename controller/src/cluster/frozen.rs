//! Objects that are watched and seldom looked at: kept as packed JSON, which
//! is a tenth of what they take as they are.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::runtime::watcher::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::few::{Key, key};
use super::gate::Gate;
use super::packed::{Packed, Packer};

/// Objects of one kind, each with a tag that can be read without thawing it.
#[derive(Debug)]
pub struct Frozen<K, T> {
    maps: Mutex<Maps<T>>,
    packer: Packer,
    tag: fn(&K) -> T,
    listed: Gate,
    kind: PhantomData<fn() -> K>,
}

#[derive(Debug)]
struct Maps<T> {
    objects: HashMap<Key, (T, Packed)>,
    /// What a list under way has shown.
    listing: HashMap<Key, (T, Packed)>,
}

impl<K, T> Frozen<K, T>
where
    K: ResourceExt + Serialize + DeserializeOwned,
    T: Clone,
{
    /// None yet; `tag` reads an object's tag.
    #[must_use]
    pub fn new(tag: fn(&K) -> T) -> Self {
        Self {
            maps: Mutex::new(Maps {
                objects: HashMap::new(),
                listing: HashMap::new(),
            }),
            packer: Packer::default(),
            tag,
            listed: Gate::default(),
            kind: PhantomData,
        }
    }

    /// Takes in what the watch saw.
    pub fn apply(&self, event: &Event<K>) {
        match event {
            Event::Apply(object) => {
                let frozen = self.freeze(object);
                self.lock().objects.insert(key_of(object), frozen);
            }
            Event::Delete(object) => {
                self.forget(&object.namespace().unwrap_or_default(), &object.name_any());
            }
            Event::Init => self.lock().listing.clear(),
            Event::InitApply(object) => {
                let frozen = self.freeze(object);
                self.lock().listing.insert(key_of(object), frozen);
            }
            Event::InitDone => {
                let mut maps = self.lock();
                maps.objects = std::mem::take(&mut maps.listing);
                drop(maps);
                self.listed.open();
            }
        }
    }

    /// Takes an object out.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.lock().objects.remove(&key(namespace, name));
    }

    /// Returns once the first list is in.
    pub async fn ready(&self) {
        self.listed.opened().await;
    }

    /// The object, as it was last seen.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<K> {
        let packed = {
            let maps = self.lock();
            let (_, packed) = maps.objects.get(key(namespace, name).as_ref())?;
            packed.clone()
        };
        packed.thaw()
    }

    /// The tags of all objects.
    #[must_use]
    pub fn tags(&self) -> Vec<T> {
        let maps = self.lock();
        maps.objects.values().map(|(tag, _)| tag.clone()).collect()
    }

    fn freeze(&self, object: &K) -> (T, Packed) {
        ((self.tag)(object), self.packer.freeze(object))
    }

    fn lock(&self) -> MutexGuard<'_, Maps<T>> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of<K: ResourceExt>(object: &K) -> Key {
    key(&object.namespace().unwrap_or_default(), &object.name_any())
}

#[cfg(test)]
mod tests {
    use coracle_api::vm::VirtualMachine;
    use kube::ResourceExt;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::Frozen;
    use crate::cluster::testing::vm;

    fn named(name: &str) -> VirtualMachine {
        vm(json!({"metadata": {"name": name}}))
    }

    #[test]
    fn an_object_thaws_as_it_was_and_a_list_replaces_all() {
        let frozen = Frozen::new(|vm: &VirtualMachine| vm.name_any());
        frozen.apply(&Event::Apply(named("gone")));
        frozen.apply(&Event::Init);
        frozen.apply(&Event::InitApply(named("a")));
        frozen.apply(&Event::InitApply(named("b")));
        assert!(
            frozen.get("shop", "gone").is_some(),
            "until the list is whole"
        );
        frozen.apply(&Event::InitDone);
        assert_eq!(frozen.get("shop", "gone"), None);
        assert_eq!(frozen.get("shop", "a"), Some(named("a")));
        assert_eq!(frozen.get("other", "a"), None);
        let mut tags = frozen.tags();
        tags.sort();
        assert_eq!(tags, ["a", "b"]);
        frozen.apply(&Event::Delete(named("a")));
        assert_eq!(frozen.get("shop", "a"), None);
    }
}
