//! VMs that this controller cannot read.
//!
//! A newer version of the custom resource may know words that an older
//! controller does not: after a roll-back there are objects that it cannot
//! read. One of them must not end the watch over all. What is done for such a
//! VM is nothing at all: its pod runs on, and it is said once per version.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coracle_api::vm::VirtualMachine;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::watcher::Event;

/// A VM as the watch brings it: read, or why not.
pub type Guarded = DeserializeGuard<VirtualMachine>;

type Key = (String, String);

/// The VMs that cannot be read.
#[derive(Debug, Default)]
pub struct Unreadable(Mutex<HashMap<Key, Unread>>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    version: String,
    /// Its uid, for the event about it.
    pub uid: String,
    /// What cannot be read.
    pub why: String,
    told: bool,
    /// Whether the list under way, or the last one, has shown it.
    listed: bool,
}

impl Unreadable {
    /// Takes in what the watch saw.
    pub fn apply(&self, event: &Event<Guarded>) {
        match event {
            Event::Apply(vm) | Event::InitApply(vm) => self.see(vm),
            Event::Delete(vm) => {
                self.lock().remove(&key(vm));
            }
            Event::Init => self.lock().values_mut().for_each(|vm| vm.listed = false),
            // What was deleted while nobody watched.
            Event::InitDone => self.lock().retain(|_, vm| vm.listed),
        }
    }

    /// What is to be said of a VM: its uid and what cannot be read; once for
    /// each version of it.
    #[must_use]
    pub fn tell(&self, namespace: &str, name: &str) -> Option<Unread> {
        let mut all = self.lock();
        let unread = all.get_mut(&(namespace.to_owned(), name.to_owned()))?;
        let news = (!unread.told).then(|| unread.clone());
        unread.told = true;
        news
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn see(&self, vm: &Guarded) {
        let mut all = self.lock();
        let Err(invalid) = &vm.0 else {
            all.remove(&key(vm));
            return;
        };
        let unread = read(invalid);
        match all.get_mut(&key(vm)) {
            Some(known) if known.version == unread.version => known.listed = true,
            Some(_) | None => {
                all.insert(key(vm), unread);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Unread>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(vm: &Guarded) -> Key {
    (vm.namespace().unwrap_or_default(), vm.name_any())
}

fn read(invalid: &InvalidObject) -> Unread {
    let metadata = &invalid.metadata;
    Unread {
        version: metadata.resource_version.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        why: invalid.error.clone(),
        told: false,
        listed: true,
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::{Guarded, Unreadable};
    use crate::cluster::testing::vm;

    fn guarded(version: &str, policy: &str) -> Guarded {
        let readable = vm(json!({"metadata": {"name": "web", "resourceVersion": version}}));
        let mut value = serde_json::to_value(readable).expect("JSON");
        value["spec"]["runPolicy"] = Value::from(policy);
        serde_json::from_value(value).expect("a guard takes everything that has metadata")
    }

    #[test]
    fn a_vm_that_cannot_be_read_is_told_of_once_per_version() {
        let unreadable = Unreadable::default();
        unreadable.apply(&Event::InitApply(guarded("1", "Always")));
        assert_eq!(
            (unreadable.count(), unreadable.tell("shop", "web")),
            (0, None)
        );
        unreadable.apply(&Event::Apply(guarded("2", "Sometimes")));
        let told = unreadable.tell("shop", "web").expect("news");
        assert!(told.why.contains("Sometimes"), "{}", told.why);
        unreadable.apply(&Event::InitApply(guarded("2", "Sometimes")));
        assert_eq!(
            unreadable.tell("shop", "web"),
            None,
            "a new list is no news"
        );
        unreadable.apply(&Event::Apply(guarded("3", "Sometimes")));
        assert!(unreadable.tell("shop", "web").is_some());
        assert_eq!(unreadable.count(), 1);
        unreadable.apply(&Event::Apply(guarded("4", "Always")));
        assert_eq!(unreadable.count(), 0);
        unreadable.apply(&Event::Apply(guarded("5", "Sometimes")));
        unreadable.apply(&Event::Delete(guarded("5", "Sometimes")));
        assert_eq!(unreadable.count(), 0);
    }

    #[test]
    fn a_vm_that_a_new_list_does_not_show_is_gone() {
        let unreadable = Unreadable::default();
        unreadable.apply(&Event::Apply(guarded("1", "Sometimes")));
        unreadable.apply(&Event::Init);
        unreadable.apply(&Event::InitApply(guarded("1", "Sometimes")));
        unreadable.apply(&Event::InitDone);
        assert_eq!(unreadable.count(), 1);
        unreadable.apply(&Event::Init);
        unreadable.apply(&Event::InitDone);
        assert_eq!(unreadable.count(), 0);
    }
}
