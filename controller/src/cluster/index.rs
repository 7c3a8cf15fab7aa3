//! The pods that matter: those of VMs, and any other that uses a claim.
//!
//! Fed by one watch over all pods, of which it keeps the facts and not the
//! objects. It answers two questions without walking through everything:
//! which pods does this VM own, and who uses this claim. A pod that is about
//! to be created is entered before the API server is asked, so that two VMs
//! which want one claim cannot both find it free.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coracle_block::claim::Holder;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::Event;

use super::facts::PodFacts;
use super::gate::Gate;
use super::packed::{Packed, Packer};

mod claims;
mod pods;

use claims::claims;
use pods::{Entry, Namespace};

/// Which VM owns a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The VM's name.
    pub vm: String,
    /// Its uid.
    pub uid: String,
}

/// The index; cheap to share.
#[derive(Debug, Default)]
pub struct PodIndex {
    namespaces: Mutex<HashMap<String, Namespace>>,
    /// What a list under way has shown: namespace, name, pod.
    listing: Mutex<Vec<(String, String, Entry)>>,
    listed: Gate,
    packer: Packer,
}

impl PodIndex {
    /// Takes in what the watch saw.
    pub fn apply(&self, event: &Event<Pod>) {
        match event {
            Event::Apply(pod) => self.put(pod),
            Event::Delete(pod) => {
                let (namespace, name) = names(pod);
                self.remove(&namespace, &name);
            }
            Event::Init => lock(&self.listing).clear(),
            Event::InitApply(pod) => {
                let ((namespace, name), entry) = (names(pod), self.entry(pod, None));
                if entry.matters() {
                    lock(&self.listing).push((namespace, name, entry));
                }
            }
            Event::InitDone => self.relist(std::mem::take(&mut *lock(&self.listing))),
        }
    }

    /// Returns once the first list is in.
    pub async fn ready(&self) {
        self.listed.opened().await;
    }

    /// The pods that a VM owns. One that is only reserved is none yet: if the
    /// answer to its creation was lost, the creation is tried again, and finds
    /// the name taken or not.
    #[must_use]
    pub fn of(&self, namespace: &str, owner: &Owner, now: Timestamp) -> Vec<Arc<PodFacts>> {
        let packed: Vec<Packed> = lock(&self.namespaces)
            .get(namespace)
            .map_or_else(Vec::new, |namespace| namespace.of(owner, now));
        packed
            .iter()
            .map(|packed| {
                let facts: Option<PodFacts> = packed.thaw();
                // To go on without it would be to overlook a pod that writes.
                facts.expect("what was packed here can be unpacked")
            })
            .filter(|facts| facts.uid.is_some())
            .map(Arc::new)
            .collect()
    }

    /// The pods that use a claim and have not ended, as `vm` sees them: an
    /// earlier VM of the same name is somebody else.
    #[must_use]
    pub fn holders(&self, namespace: &str, claim: &str, vm: &Owner, now: Timestamp) -> Vec<Holder> {
        lock(&self.namespaces)
            .get(namespace)
            .map_or_else(Vec::new, |namespace| namespace.holders(claim, vm, now))
    }

    /// Enters a pod that is about to be created, if everybody who uses its
    /// claims is still as `seen` has it.
    ///
    /// # Errors
    /// Gives back nothing but the fact that somebody was quicker.
    pub fn reserve(
        &self,
        pod: &Pod,
        seen: &HashMap<String, Vec<Holder>>,
        now: Timestamp,
    ) -> Result<(), ClaimsMoved> {
        let (namespace_name, name) = names(pod);
        let fresh = self.entry(pod, Some(now));
        let owner = fresh.owner.clone().ok_or(ClaimsMoved)?;
        let mut namespaces = lock(&self.namespaces);
        let namespace = namespaces.entry(namespace_name).or_default();
        let same = fresh.claims.iter().all(|use_| {
            let held = namespace.holders(&use_.claim, &owner, now);
            seen.get(&use_.claim).is_some_and(|seen| *seen == held)
        });
        if !same {
            return Err(ClaimsMoved);
        }
        namespace.put(&name, fresh);
        Ok(())
    }

    /// Enters a pod that was created, unless the watch was quicker.
    pub fn created(&self, pod: &Pod, now: Timestamp) {
        let (namespace, name) = names(pod);
        let mut namespaces = lock(&self.namespaces);
        let namespace = namespaces.entry(namespace).or_default();
        let seen = |entry: &Entry| entry.unseen_since.is_none();
        if !namespace.pods.get(name.as_str()).is_some_and(seen) {
            namespace.put(&name, self.entry(pod, Some(now)));
        }
    }

    /// Takes back what was reserved for a pod that could not be created.
    pub fn give_up(&self, namespace: &str, name: &str) {
        let mut namespaces = lock(&self.namespaces);
        if let Some(namespace) = namespaces.get_mut(namespace)
            && let Some(entry) = namespace.pods.get(name)
            && entry.unseen_since.is_some()
        {
            namespace.remove(name);
        }
    }

    /// How many pods are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        let namespaces = lock(&self.namespaces);
        namespaces.values().map(|n| n.pods.len()).sum()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn entry(&self, pod: &Pod, unseen_since: Option<Timestamp>) -> Entry {
        let owner = owner(pod);
        let facts = owner
            .as_ref()
            .and_then(|owner| PodFacts::of(pod, &owner.vm));
        // Of somebody else's pod Kubernetes itself takes the phase for the end.
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let ended = facts
            .as_ref()
            .map_or(matches!(phase, Some("Succeeded" | "Failed")), |facts| {
                facts.termination().is_some()
            });
        Entry {
            claims: if ended {
                vec![]
            } else {
                claims(pod, owner.is_some())
            },
            owner,
            facts: facts.map(|facts| self.packer.freeze(&facts)),
            unseen_since,
        }
    }

    fn put(&self, pod: &Pod) {
        let (namespace, name) = names(pod);
        let entry = self.entry(pod, None);
        if entry.matters() {
            let mut namespaces = lock(&self.namespaces);
            namespaces.entry(namespace).or_default().put(&name, entry);
        } else {
            // An ended pod that used a claim matters no more.
            self.remove(&namespace, &name);
        }
    }

    fn remove(&self, namespace: &str, name: &str) {
        let mut namespaces = lock(&self.namespaces);
        if let Some(found) = namespaces.get_mut(namespace) {
            found.remove(name);
            if found.pods.is_empty() {
                namespaces.remove(namespace);
            }
        }
    }

    fn relist(&self, listed: Vec<(String, String, Entry)>) {
        let mut fresh: HashMap<String, Namespace> = HashMap::new();
        for (namespace, name, entry) in listed {
            fresh.entry(namespace).or_default().put(&name, entry);
        }
        // Swapped under the lock: a reader must never find the index empty.
        let mut namespaces = lock(&self.namespaces);
        for (name, old) in namespaces.drain() {
            // What this process has just made may be younger than the list.
            let unseen = old.pods.into_iter();
            for (pod, entry) in unseen.filter(|(_, entry)| entry.unseen_since.is_some()) {
                let namespace = fresh.entry(name.clone()).or_default();
                if !namespace.pods.contains_key(&pod) {
                    namespace.put(&pod, entry);
                }
            }
        }
        *namespaces = fresh;
        drop(namespaces);
        self.listed.open();
    }
}

/// Somebody began or stopped using a claim between looking and reserving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pods that use the VM's claims changed while its pod was planned")]
pub struct ClaimsMoved;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is made whole under the lock, so a panic elsewhere leaves
    // nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn names(pod: &Pod) -> (String, String) {
    let metadata = &pod.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// The VM that a pod belongs to: by its controller reference and not by a
/// label, which anybody can set.
#[must_use]
pub fn owner(pod: &Pod) -> Option<Owner> {
    let owners = pod.metadata.owner_references.as_deref()?;
    let ours = |reference: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| {
        reference.controller == Some(true)
            && reference.kind == "VirtualMachine"
            && reference
                .api_version
                .split('/')
                .next()
                .is_some_and(|group| group == coracle_api::names::GROUP)
    };
    owners.iter().find(ours).map(|reference| Owner {
        vm: reference.name.clone(),
        uid: reference.uid.clone(),
    })
}

#[cfg(test)]
mod tests;
