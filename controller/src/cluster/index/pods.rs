//! The pods of one namespace, by the two things that are asked for.

use std::collections::HashMap;

use coracle_block::claim::Holder;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::Owner;
use super::claims::ClaimUse;
use crate::cluster::few::Few;
use crate::cluster::packed::Packed;

/// How long an entry made by this process counts before the watch has shown
/// it. The watch lags by milliseconds; a minute means it never will.
const UNSEEN: SignedDuration = SignedDuration::from_secs(60);

/// What is kept of a pod.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) owner: Option<Owner>,
    /// The facts, of a pod that is one of a VM's.
    pub(super) facts: Option<Packed>,
    pub(super) claims: Vec<ClaimUse>,
    /// When this process entered it, until the watch shows it.
    pub(super) unseen_since: Option<Timestamp>,
}

/// The pods of a namespace.
#[derive(Debug, Default)]
pub(super) struct Namespace {
    pub(super) pods: HashMap<Box<str>, Entry>,
    /// By the VM's name; not every one of the pods is of the same VM.
    by_vm: HashMap<Box<str>, Few>,
    by_claim: HashMap<Box<str>, Few>,
}

impl Entry {
    /// Whether the pod is a VM's or uses a claim; most pods do neither.
    pub(super) fn matters(&self) -> bool {
        self.owner.is_some() || !self.claims.is_empty()
    }

    /// Whether it is one of the VM's own pods, by owner and by name.
    fn is_of(&self, vm: &Owner) -> bool {
        self.owner.as_ref() == Some(vm) && self.facts.is_some()
    }

    /// Whether it is to be believed.
    pub(super) fn counts(&self, now: Timestamp) -> bool {
        self.unseen_since
            .is_none_or(|since| now.duration_since(since) < UNSEEN)
    }
}

impl Namespace {
    pub(super) fn put(&mut self, name: &str, entry: Entry) {
        self.remove(name);
        if let Some(owner) = &entry.owner {
            enter(&mut self.by_vm, &owner.vm, name);
        }
        for use_ in &entry.claims {
            enter(&mut self.by_claim, &use_.claim, name);
        }
        self.pods.insert(name.into(), entry);
    }

    pub(super) fn remove(&mut self, name: &str) {
        let Some(entry) = self.pods.remove(name) else {
            return;
        };
        if let Some(owner) = &entry.owner {
            leave(&mut self.by_vm, &owner.vm, name);
        }
        for use_ in &entry.claims {
            leave(&mut self.by_claim, &use_.claim, name);
        }
    }

    /// The facts of a VM's pods.
    pub(super) fn of(&self, owner: &Owner, now: Timestamp) -> Vec<Packed> {
        let names = self.by_vm.get(owner.vm.as_str()).into_iter();
        names
            .flat_map(Few::iter)
            .filter_map(|name| self.pods.get(name))
            .filter(|entry| entry.counts(now) && entry.owner.as_ref() == Some(owner))
            .filter_map(|entry| entry.facts.clone())
            .collect()
    }

    /// Who uses a claim, but for the VM's own pods.
    pub(super) fn holders(&self, claim: &str, vm: &Owner, now: Timestamp) -> Vec<Holder> {
        let names = self.by_claim.get(claim).into_iter().flat_map(Few::iter);
        let entries = names.filter_map(|name| Some((name, self.pods.get(name)?)));
        entries
            .filter(|(_, entry)| entry.counts(now) && !entry.is_of(vm))
            .flat_map(|(name, entry)| {
                let uses = entry.claims.iter().filter(|use_| use_.claim == claim);
                uses.map(move |use_| Holder {
                    pod: name.to_owned(),
                    vm: entry
                        .owner
                        .as_ref()
                        .filter(|owner| owner.vm != vm.vm)
                        .map(|owner| owner.vm.clone()),
                    read_only: use_.read_only,
                    shareable: use_.shareable,
                })
            })
            .collect()
    }
}

fn enter(map: &mut HashMap<Box<str>, Few>, key: &str, pod: &str) {
    match map.get_mut(key) {
        Some(pods) => pods.insert(pod),
        None => map.entry(key.into()).or_default().insert(pod),
    }
}

fn leave(map: &mut HashMap<Box<str>, Few>, key: &str, pod: &str) {
    if let Some(pods) = map.get_mut(key) {
        pods.remove(pod);
        if pods.is_empty() {
            map.remove(key);
        }
    }
}
