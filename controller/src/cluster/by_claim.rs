//! Which VMs are to be looked at again when something happens to a claim.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::few::Few;

/// A map from claims to the VMs that care about them.
#[derive(Debug, Default)]
pub struct ByClaim(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    vms: HashMap<Key, Few>,
    claims: HashMap<Key, Vec<String>>,
}

/// Namespace and name.
type Key = (String, String);

impl ByClaim {
    /// Says which claims a VM cares about from now on.
    pub fn set(&self, namespace: &str, vm: &str, claims: Vec<String>) {
        let mut maps = self.lock();
        let key = (namespace.to_owned(), vm.to_owned());
        let old = if claims.is_empty() {
            maps.claims.remove(&key)
        } else {
            maps.claims.insert(key, claims.clone())
        };
        for claim in old.into_iter().flatten() {
            let key = (namespace.to_owned(), claim);
            if let Some(vms) = maps.vms.get_mut(&key) {
                vms.remove(vm);
                if vms.is_empty() {
                    maps.vms.remove(&key);
                }
            }
        }
        for claim in claims {
            let vms = maps.vms.entry((namespace.to_owned(), claim)).or_default();
            vms.insert(vm);
        }
    }

    /// The VMs that care about a claim.
    #[must_use]
    pub fn vms(&self, namespace: &str, claim: &str) -> Vec<String> {
        let key = (namespace.to_owned(), claim.to_owned());
        let maps = self.lock();
        let vms = maps.vms.get(&key).into_iter();
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
        map.set("shop", "web", vec!["root".into(), "data".into()]);
        map.set("shop", "db", vec!["data".into()]);
        assert_eq!(map.vms("shop", "data"), ["db", "web"]);
        map.set("shop", "web", vec!["other".into()]);
        assert_eq!(map.vms("shop", "data"), ["db"]);
        assert_eq!(map.vms("shop", "other"), ["web"]);
        assert!(map.vms("bank", "data").is_empty(), "of another namespace");
        map.set("shop", "db", vec![]);
        assert!(map.vms("shop", "data").is_empty());
    }
}
