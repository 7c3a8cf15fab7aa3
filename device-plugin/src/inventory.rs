//! Which devices of a node belong to which resource, how well they are, and
//! what a container gets with each. Pure: from what the host has, the settings
//! and who holds what.
//!
//! Two steps, because they change at different times. [`Inventory::take`] is
//! what is there; [`Inventory::offer`] is what of it can be given out now.

mod chardev;
mod mdev;
mod pci;
mod usb;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::allocation::named;
use crate::holdings::Holdings;
use crate::host::{Host, Vfio};
use crate::listing::{Entry, Health, Key, Listing};
use crate::node::Node;
use crate::resource::{BUILTINS, Builtin, Kind, Resource};
use crate::settings::{Selectors, Settings, Spec};

/// The longest device name that the kubelet takes.
const ID_MAX: usize = coracle_proto::deviceplugin::DEVICE_ID_MAX;

/// A built-in resource, and how many slots it has.
pub(crate) type Counted = (Builtin, u32);

/// What a node has, by resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    pub(crate) resources: Vec<(Arc<Resource>, Vec<Arc<Entry>>)>,
    /// Devices that two resources claim, and the words for it.
    pub(crate) conflicts: BTreeMap<String, String>,
}

/// A device that a selector selects.
struct Selected<'a> {
    entry: Entry,
    what: What<'a>,
    /// The line of the selector.
    line: usize,
}

/// What is selected, whichever resource does it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What<'a> {
    /// A PCI function, by its address.
    Pci(&'a str),
    /// A mediated device, by its UUID.
    Mdev(&'a str),
    /// A USB device, by its port.
    Usb(&'a str),
    /// A character device, by its numbers.
    Node(u64),
    /// One that is not there, by its path.
    Missing(String),
}

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => write!(f, "PCI function {address}"),
            Self::Mdev(uuid) => write!(f, "mediated device {uuid}"),
            Self::Usb(port) => write!(f, "USB device {port}"),
            Self::Node(rdev) => Key::Node(*rdev).fmt(f),
            Self::Missing(path) => f.write_str(path),
        }
    }
}

impl Inventory {
    /// What there is.
    pub(crate) fn take(settings: &Settings, builtin: &[Counted], host: &Host) -> Self {
        let specs = settings.resources.iter();
        let selected: Vec<(&Spec, Vec<Selected<'_>>)> =
            specs.map(|spec| (spec, select(spec, host))).collect();
        let conflicts = conflicts(&selected);
        let mut resources: Vec<_> = builtin
            .iter()
            .map(|(builtin, count)| {
                let resource = Resource::new(builtin.name, Kind::Chardev, vec![]);
                (
                    Arc::new(resource),
                    vec![Arc::new(chardev::builtin(builtin, *count, host))],
                )
            })
            .collect();
        for (spec, devices) in selected {
            // Not collected, which would keep the room of what was selected.
            let mut entries = Vec::with_capacity(devices.len());
            entries.extend(devices.into_iter().map(|device| judged(device, &conflicts)));
            resources.push((Arc::new(spec.resource()), entries));
        }
        mark_shared(&mut resources);
        Self {
            resources,
            conflicts: conflicts
                .into_iter()
                .map(|(what, reason)| (what.to_string(), reason))
                .collect(),
        }
    }

    /// What can be given out now, while this is held.
    pub(crate) fn offer(&self, holdings: &Holdings) -> Vec<Listing> {
        // There may be thousands: only if they count.
        let first = if holdings.is_known() {
            BTreeMap::new()
        } else {
            self.first_names()
        };
        let resources = self.resources.iter();
        let listings = resources.map(|(resource, entries)| {
            let offered = entries.iter().map(|entry| {
                let health = offered(resource, entry, holdings, &first);
                entry.with(health)
            });
            let mut offered: Vec<Arc<Entry>> = offered.collect();
            offered.extend(missed(resource, entries, holdings));
            Listing::new(resource.clone(), offered)
        });
        listings.collect()
    }

    /// The first name of each group, in the order of the settings: the one that
    /// is offered while it is not known what is in use.
    fn first_names(&self) -> BTreeMap<&Key, (&str, &str)> {
        let mut first = BTreeMap::new();
        for (resource, entries) in &self.resources {
            for entry in entries {
                if let Some(key) = &entry.key {
                    first
                        .entry(key)
                        .or_insert((resource.name.as_str(), &*entry.id));
                }
            }
        }
        first
    }

    /// The character device, group or port that a name leads to.
    pub(crate) fn key_of(&self, host: &Host, resource: &str, id: &str) -> Option<Key> {
        let mut resources = self.resources.iter();
        let known = resources.find(|(known, _)| known.name == resource);
        let entry = known.and_then(|(_, entries)| entries.iter().find(|entry| &*entry.id == id));
        // A device may be in use by a resource that the settings had before.
        match entry {
            Some(entry) => entry.key.clone(),
            None => host
                .group(id)
                .map(Key::Group)
                .or_else(|| host.usb.contains_key(id).then(|| Key::Usb(id.into()))),
        }
    }
}

/// Marks the devices of what has several names.
fn mark_shared(resources: &mut [(Arc<Resource>, Vec<Arc<Entry>>)]) {
    let entries = resources.iter().flat_map(|(_, entries)| entries);
    let (mut keys, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for key in entries.filter_map(|entry| entry.key.as_ref()) {
        if !keys.insert(key) {
            shared.insert(key.clone());
        }
    }
    for entry in resources.iter_mut().flat_map(|(_, entries)| entries) {
        if entry.key.as_ref().is_some_and(|key| shared.contains(key)) {
            Arc::make_mut(entry).shared = true;
        }
    }
}

/// Whether a device can be given out.
fn offered(
    resource: &Resource,
    entry: &Entry,
    holdings: &Holdings,
    first: &BTreeMap<&Key, (&str, &str)>,
) -> Health {
    let (Health::Healthy, Some(key)) = (&entry.health, &entry.key) else {
        return entry.health.clone();
    };
    if let Some(holder) = holdings.holder(key) {
        let own = holder.resource == resource.name && holder.ids.contains(&*entry.id);
        if !own {
            let holder = named(&holder.resource, &holder.ids);
            return Health::unhealthy(format!("{key} is in use as {holder}"));
        }
    }
    match first.get(key) {
        Some((name, id)) if (*name, *id) != (&resource.name, &*entry.id) => {
            Health::unhealthy(format!(
                "{key} is offered as {name} {id}: without the kubelet's pod-resources only one \
                 name of it can be"
            ))
        }
        _ => Health::Healthy,
    }
}

/// Devices that a container has and the node has no longer: they stay in the
/// list so that the pod's status says so.
fn missed(resource: &Resource, entries: &[Arc<Entry>], holdings: &Holdings) -> Vec<Arc<Entry>> {
    let ids = holdings.ids(&resource.name);
    let gone = ids.filter(|id| !entries.iter().any(|entry| &*entry.id == *id));
    let gone = gone.map(|id| {
        Arc::new(Entry {
            health: Health::unhealthy("it is not there any more"),
            ..Entry::new(id)
        })
    });
    gone.collect()
}

/// The devices of a resource.
fn select<'a>(spec: &Spec, host: &'a Host) -> Vec<Selected<'a>> {
    let mut all = match &spec.selectors {
        Selectors::Pci(selectors) => pci::select(selectors, host),
        Selectors::Mdev(selectors) => mdev::select(selectors, host),
        Selectors::Usb(selectors) => usb::select(selectors, host),
        Selectors::Chardev(selectors) => chardev::select(selectors, host),
    };
    all.sort_by(|one, other| one.entry.id.cmp(&other.entry.id));
    // Two selectors of one resource may meet, two names may look the same.
    all.dedup_by(|later, first| later.entry.id == first.entry.id);
    all
}

/// Devices that two resources claim. In one list, because all else would leave
/// holes in memory between the devices: there may be thousands.
fn conflicts<'a>(all: &[(&Spec, Vec<Selected<'a>>)]) -> BTreeMap<What<'a>, String> {
    let devices = all.iter().flat_map(|(spec, devices)| {
        let claim = |selected| (spec.name.as_str(), selected);
        devices.iter().map(claim)
    });
    let mut claims: Vec<(&str, &Selected<'a>)> = devices.collect();
    claims.sort_by(|(_, one), (_, other)| one.what.cmp(&other.what));
    let claims = claims.chunk_by(|(_, one), (_, other)| one.what == other.what);
    let several = claims.filter(|claims| claims.len() > 1);
    let told = several.map(|claims| {
        let what = &claims[0].1.what;
        let names = claims.iter().map(|(name, selected)| {
            let line = selected.line;
            format!("{name} (line {line})")
        });
        let names: Vec<_> = names.collect();
        let reason = format!(
            "{what} is selected by {}: one device belongs to one resource",
            names.join(" and by ")
        );
        (what.clone(), reason)
    });
    told.collect()
}

/// A device that was selected, with what speaks against it.
fn judged(selected: Selected<'_>, conflicts: &BTreeMap<What<'_>, String>) -> Arc<Entry> {
    let mut entry = selected.entry;
    if let Some(reason) = conflicts.get(&selected.what) {
        entry.health = Health::unhealthy(reason);
    }
    if entry.longest_id() > ID_MAX {
        let reason = format!("its name is longer than the {ID_MAX} that may be");
        entry.health = Health::unhealthy(reason);
    }
    Arc::new(entry)
}

/// Where the container finds what VFIO has for a device, and what is missing
/// of it. `own` is the directory of the plugin's own nodes for it.
fn vfio_nodes(
    vfio: &Vfio,
    own: &str,
    group: u32,
    cdev: Option<&str>,
) -> Result<Box<[Node]>, String> {
    let node = |own: &str, container: &str, rdev: Option<u64>| {
        let missing = || format!("/dev/{container} is not there: load the module vfio-pci");
        Ok::<_, String>(Node::named(own, container, rdev.ok_or_else(missing)?))
    };
    let mut nodes = vec![
        node("vfio/vfio", "vfio/vfio", vfio.container)?,
        node(
            &format!("{own}/group"),
            &format!("vfio/{group}"),
            vfio.groups.get(&group).copied(),
        )?,
    ];
    // Newer kernels have both; who uses the device takes one.
    if let (Some(name), Some(iommu)) = (cdev, vfio.iommu)
        && let Some(rdev) = vfio.cdevs.get(name)
    {
        nodes.push(Node::alike("", "iommu", iommu));
        let container = format!("vfio/devices/{name}");
        nodes.push(Node::named(&format!("{own}/cdev"), &container, *rdev));
    }
    Ok(nodes.into())
}

/// The built-in resources that are switched on.
pub(crate) fn builtins(counts: [u32; 3]) -> Vec<Counted> {
    let all = BUILTINS.into_iter().zip(counts);
    all.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests;
