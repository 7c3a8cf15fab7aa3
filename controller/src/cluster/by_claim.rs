//! Which VMs are to be looked at again when something happens to a claim.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::few::{Few, Key, key};

/// A map from claims to the VMs that care about them.
#[derive(Debug, Default)]
pub struct ByClaim(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    vms: HashMap<Key, Few>,
    claims: HashMap<Key, Few>,
}

impl ByClaim {
    /// Says which claims a VM cares about from now on.
    pub fn set<'a>(&self, namespace: &str, vm: &str, claims: impl IntoIterator<Item = &'a str>) {
        let mut new = Few::default();
        claims.into_iter().for_each(|claim| new.insert(claim));
        let mut maps = self.lock();
        let old = maps.claims.remove(&key(namespace, vm)).unwrap_or_default();
        for claim in old.iter() {
            let key = key(namespace, claim);
            if let Some(vms) = maps.vms.get_mut(&key) {
                vms.remove(vm);
                if vms.is_empty() {
                    maps.vms.remove(&key);
                }
            }
        }
        for claim in new.iter() {
            let vms = maps.vms.entry(key(namespace, claim)).or_default();
            vms.insert(vm);
        }
        if !new.is_empty() {
            maps.claims.insert(key(namespace, vm), new);
        }
    }

    /// The VMs that care about a claim.
    #[must_use]
    pub fn vms(&self, namespace: &str, claim: &str) -> Vec<String> {
        let maps = self.lock();
        let vms = maps.vms.get(&key(namespace, claim)).into_iter();
        vms.flat_map(Few::iter).map(str::to_owned).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::ByClaim;

    #[test]
    fn a_vm_that_changes_its_claims_is_found_under_the_new_ones_only() {
        let map = ByClaim::default();
        map.set("shop", "web", ["root", "data"]);
        map.set("shop", "db", ["data"]);
        assert_eq!(map.vms("shop", "data"), ["db", "web"]);
        map.set("shop", "web", ["other"]);
        assert_eq!(map.vms("shop", "data"), ["db"]);
        assert_eq!(map.vms("shop", "other"), ["web"]);
        assert!(map.vms("bank", "data").is_empty(), "of another namespace");
        map.set("shop", "db", []);
        assert!(map.vms("shop", "data").is_empty());
    }
}
