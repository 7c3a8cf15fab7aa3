//! Who has which device: the kubelet's books, without I/O.

use std::collections::{BTreeMap, HashSet};

use coracle_proto::deviceplugin::{HEALTHY, ListAndWatchResponse};

use crate::error::KubeletError;

/// A device as its plugin describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The plugin's name for it.
    pub id: String,
    /// Whether it can be given out. All devices of a plugin that is gone
    /// are not.
    pub healthy: bool,
    /// The NUMA nodes it is at; empty when the plugin names none.
    pub numa: Vec<i64>,
}

/// What is known of all resources. `P` is a connection to a plugin.
#[derive(Debug)]
pub(crate) struct Accounts<P> {
    resources: BTreeMap<String, Resource<P>>,
    generation: u64,
}

#[derive(Debug)]
struct Resource<P> {
    /// The plugin that is registered, with the number of its registration.
    plugin: Option<(u64, P)>,
    devices: Vec<Device>,
    held: HashSet<String>,
}

impl<P> Default for Accounts<P> {
    fn default() -> Self {
        Self {
            resources: BTreeMap::new(),
            generation: 0,
        }
    }
}

impl<P> Default for Resource<P> {
    fn default() -> Self {
        Self {
            plugin: None,
            devices: vec![],
            held: HashSet::new(),
        }
    }
}

impl<P: Clone> Accounts<P> {
    /// A plugin has registered. Returns the number of the registration and
    /// the plugin that it replaces.
    pub(crate) fn connect(&mut self, resource: &str, plugin: P) -> (u64, Option<P>) {
        self.generation += 1;
        let entry = self.resources.entry(resource.to_owned()).or_default();
        let old = entry.plugin.replace((self.generation, plugin));
        (self.generation, old.map(|(_, plugin)| plugin))
    }

    /// A plugin's stream has ended: none of its devices can be given out.
    /// Without a `generation` whatever is registered is disconnected.
    /// Returns whether that was so.
    pub(crate) fn disconnect(&mut self, resource: &str, generation: Option<u64>) -> bool {
        let Some(entry) = self.resources.get_mut(resource) else {
            return false;
        };
        let Some((current, _)) = &entry.plugin else {
            return false;
        };
        if generation.is_some_and(|generation| generation != *current) {
            return false;
        }
        entry.plugin = None;
        for device in &mut entry.devices {
            device.healthy = false;
        }
        true
    }

    /// A plugin sent its list. One that was replaced has no say.
    pub(crate) fn update(&mut self, resource: &str, generation: u64, list: ListAndWatchResponse) {
        let Some(entry) = self.resources.get_mut(resource) else {
            return;
        };
        if entry
            .plugin
            .as_ref()
            .is_none_or(|(current, _)| *current != generation)
        {
            return;
        }
        entry.devices = list
            .devices
            .into_iter()
            .map(|device| Device {
                healthy: device.health == HEALTHY,
                numa: device
                    .topology
                    .map(|topology| topology.nodes.iter().map(|node| node.id).collect())
                    .unwrap_or_default(),
                id: device.id,
            })
            .collect();
    }

    /// All devices of a resource; empty for one that never registered.
    pub(crate) fn devices(&self, resource: &str) -> &[Device] {
        self.resources
            .get(resource)
            .map_or(&[], |entry| &entry.devices)
    }

    /// The plugin, and the devices that can be given out: at least `wanted`.
    pub(crate) fn free(
        &self,
        resource: &str,
        wanted: usize,
    ) -> Result<(P, Vec<String>), KubeletError> {
        let name = || resource.to_owned();
        let entry = self
            .resources
            .get(resource)
            .ok_or_else(|| KubeletError::UnknownResource { resource: name() })?;
        let (_, plugin) = entry
            .plugin
            .as_ref()
            .ok_or_else(|| KubeletError::Disconnected { resource: name() })?;
        let free: Vec<String> = entry
            .devices
            .iter()
            .filter(|device| device.healthy && !entry.held.contains(&device.id))
            .map(|device| device.id.clone())
            .collect();
        if free.len() < wanted {
            return Err(KubeletError::NotEnough {
                resource: name(),
                wanted,
                free: free.len(),
                unhealthy: entry
                    .devices
                    .iter()
                    .filter(|device| !device.healthy)
                    .count(),
                held: entry.held.len(),
            });
        }
        Ok((plugin.clone(), free))
    }

    /// The plugin that is registered for the resource.
    pub(crate) fn plugin(&self, resource: &str) -> Result<P, KubeletError> {
        self.free(resource, 0).map(|(plugin, _)| plugin)
    }

    /// The devices in use, by resource.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&str, Vec<String>)> {
        let used = self
            .resources
            .iter()
            .filter(|(_, entry)| !entry.held.is_empty());
        used.map(|(name, entry)| (name.as_str(), entry.held.iter().cloned().collect()))
    }

    /// The devices are in use from now on.
    pub(crate) fn hold(&mut self, resource: &str, ids: &[String]) {
        let entry = self.resources.entry(resource.to_owned()).or_default();
        entry.held.extend(ids.iter().cloned());
    }

    /// The devices are in use no longer.
    pub(crate) fn release(&mut self, resource: &str, ids: &[String]) {
        if let Some(entry) = self.resources.get_mut(resource) {
            entry.held.retain(|id| !ids.contains(id));
        }
    }
}

/// The devices to give out: those the plugin prefers, as far as they may be
/// had, then the others in the plugin's order.
pub(crate) fn choose(free: &[String], preferred: &[String], wanted: usize) -> Vec<String> {
    let mut chosen: Vec<String> = vec![];
    let allowed = preferred.iter().filter(|id| free.contains(id));
    for id in allowed.chain(free) {
        if chosen.len() == wanted {
            break;
        }
        if !chosen.contains(id) {
            chosen.push(id.clone());
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use coracle_proto::deviceplugin::{self as wire, UNHEALTHY};

    use super::*;

    const KVM: &str = "coracle.dev/kvm";

    fn list(devices: &[(&str, bool)]) -> ListAndWatchResponse {
        let device = |(id, healthy): &(&str, bool)| wire::Device {
            id: (*id).to_owned(),
            health: if *healthy { HEALTHY } else { UNHEALTHY }.to_owned(),
            topology: None,
        };
        ListAndWatchResponse {
            devices: devices.iter().map(device).collect(),
        }
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn only_healthy_devices_that_nobody_holds_are_free() {
        let mut accounts = Accounts::default();
        let (generation, _) = accounts.connect(KVM, ());
        accounts.update(
            KVM,
            generation,
            list(&[("a", true), ("b", false), ("c", true)]),
        );
        accounts.hold(KVM, &ids(&["a"]));
        assert_eq!(accounts.free(KVM, 1).expect("c is free").1, ids(&["c"]));
        let error = accounts.free(KVM, 2).expect_err("one is free");
        assert_eq!(
            error.to_string(),
            "coracle.dev/kvm: 2 wanted, 1 free (1 unhealthy, 1 in use)"
        );
        accounts.release(KVM, &ids(&["a"]));
        assert_eq!(
            accounts.free(KVM, 2).expect("free again").1,
            ids(&["a", "c"])
        );
    }

    #[test]
    fn a_device_stays_held_while_its_plugin_is_away() {
        let mut accounts = Accounts::default();
        let (generation, _) = accounts.connect(KVM, ());
        accounts.update(KVM, generation, list(&[("a", true)]));
        accounts.hold(KVM, &ids(&["a"]));
        assert!(accounts.disconnect(KVM, Some(generation)));
        assert!(!accounts.devices(KVM)[0].healthy);
        assert!(matches!(
            accounts.free(KVM, 0),
            Err(KubeletError::Disconnected { .. })
        ));
        let (generation, _) = accounts.connect(KVM, ());
        accounts.update(KVM, generation, list(&[("a", true)]));
        assert!(matches!(
            accounts.free(KVM, 1),
            Err(KubeletError::NotEnough { held: 1, .. })
        ));
    }

    #[test]
    fn a_plugin_that_was_replaced_has_no_say() {
        let mut accounts = Accounts::default();
        let (old, _) = accounts.connect(KVM, "old");
        let (new, replaced) = accounts.connect(KVM, "new");
        assert_eq!(replaced, Some("old"));
        accounts.update(KVM, new, list(&[("a", true)]));
        accounts.update(KVM, old, list(&[("b", true)]));
        assert!(!accounts.disconnect(KVM, Some(old)));
        assert_eq!(
            accounts.free(KVM, 1).expect("a is free"),
            ("new", ids(&["a"]))
        );
        assert!(accounts.disconnect(KVM, None));
        assert!(matches!(
            accounts.free("coracle.dev/tun", 0),
            Err(KubeletError::UnknownResource { .. })
        ));
    }

    #[test]
    fn preferences_count_as_far_as_they_may_be_had() {
        let free = ids(&["a", "b", "c"]);
        assert_eq!(choose(&free, &ids(&["c", "x", "c"]), 2), ids(&["c", "a"]));
        assert_eq!(choose(&free, &[], 2), ids(&["a", "b"]));
        assert_eq!(choose(&free, &free, 1), ids(&["a"]));
    }
}
