//! What a resource has at one moment: its devices, their health, and what a
//! container that is given one gets. Plain data; the registrations show it to
//! the kubelet, and `Allocate` answers from it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use nix::sys::stat::{major, minor};
use tokio::sync::watch;

use crate::host::UsbAddress;
use crate::node::Node;
use crate::resource::Resource;

/// Whether a device can be handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It has not been looked at.
    Unknown,
    /// It can.
    Healthy,
    /// It cannot.
    Unhealthy {
        /// Why, for people.
        reason: String,
    },
}

impl Health {
    pub(crate) fn unhealthy(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Unhealthy { reason }
    }

    /// Whether it is unhealthy for this reason, or for one that differs in what
    /// was measured alone: that is no news.
    fn resembles(&self, reason: &str) -> bool {
        let Self::Unhealthy { reason: before } = self else {
            return false;
        };
        unmeasured(before).eq(unmeasured(reason))
    }

    /// Why the device cannot be handed out; nothing if it can.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Unknown => Some("it has not been probed yet"),
            Self::Healthy => None,
            Self::Unhealthy { reason } => Some(reason),
        }
    }
}

/// The words of a reason, without the numbers before a unit.
fn unmeasured(reason: &str) -> impl Iterator<Item = &str> {
    let units = ["instructions", "million", "ms", "s"];
    let next = reason.split_whitespace().skip(1).chain([""]);
    let words = reason.split_whitespace().zip(next);
    words.map(move |(word, next)| {
        let unit = next.trim_end_matches([',', ';', ':']);
        let measured = word.parse::<f64>().is_ok() && units.contains(&unit);
        if measured { "" } else { word }
    })
}

/// What only one container may have at a time, whatever resources lead to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    /// An IOMMU group: the kernel gives it to one user.
    Group(u32),
    /// A USB device, by its port.
    Usb(Box<str>),
    /// A character device, by its numbers: links are further names of it.
    Node(u64),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => write!(f, "IOMMU group {group}"),
            Self::Usb(port) => write!(f, "the USB device at port {port}"),
            Self::Node(rdev) => {
                write!(f, "character device {}:{}", major(*rdev), minor(*rdev))
            }
        }
    }
}

/// One device, or many slots of one. There may be thousands: what is added here
/// is paid for as often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name, the same over restarts and reboots; with slots, the beginning
    /// of their names.
    pub(crate) id: Box<str>,
    /// How many containers may have it at once; nothing when it is one device.
    pub(crate) slots: Option<u32>,
    pub(crate) health: Health,
    /// The NUMA node it is at.
    pub(crate) numa: Option<u32>,
    /// What nobody else may have then.
    pub(crate) key: Option<Key>,
    /// Whether another device leads to the same: who has one has both.
    pub(crate) shared: bool,
    pub(crate) nodes: Box<[Node]>,
    /// How others name a USB device.
    pub(crate) usb: Option<UsbAddress>,
}

impl Entry {
    /// A device without slots.
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.into(),
            slots: None,
            health: Health::Healthy,
            numa: None,
            key: None,
            shared: false,
            nodes: [].into(),
            usb: None,
        }
    }

    /// The same, with another health if that is one.
    pub(crate) fn with(self: &Arc<Self>, health: Health) -> Arc<Self> {
        if health == self.health {
            return self.clone();
        }
        let entry = Self::clone(self);
        Arc::new(Self { health, ..entry })
    }

    /// The names of its devices.
    pub(crate) fn ids(&self) -> impl Iterator<Item = String> {
        let one = self.slots.is_none().then(|| self.id.to_string());
        let slots = 0..self.slots.unwrap_or(0);
        let slots = slots.map(|slot| format!("{}-{slot}", self.id));
        one.into_iter().chain(slots)
    }

    /// How long the longest of the names is.
    pub(crate) fn longest_id(&self) -> usize {
        let last = self.slots.map(|slots| slots.saturating_sub(1));
        let number = last.map_or(0, |last| last.to_string().len() + 1);
        self.id.len() + number
    }

    /// How many devices it is.
    pub(crate) fn count(&self) -> usize {
        self.slots.map_or(1, |slots| slots as usize)
    }

    /// Whether the name is one of its own. Only the canonical spelling is:
    /// `kvm-01` would be a second name for `kvm-1`.
    fn has(&self, name: &str) -> bool {
        let Some(slots) = self.slots else {
            return name == &*self.id;
        };
        name.strip_prefix(&*self.id)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|text| {
                text.parse::<u32>()
                    .is_ok_and(|slot| slot < slots && slot.to_string() == text)
            })
    }
}

/// What a resource has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) resource: Arc<Resource>,
    /// Shared with what was found, and with the list before, as far as they
    /// are the same: a node may have thousands.
    pub(crate) entries: Vec<Arc<Entry>>,
    /// The resource is to go: whoever shows this list is to say that it is
    /// empty, and end.
    pub(crate) last: bool,
}

impl Listing {
    pub(crate) fn new<E: Into<Arc<Entry>>>(
        resource: Arc<Resource>,
        entries: impl IntoIterator<Item = E>,
    ) -> Self {
        Self {
            resource,
            entries: entries.into_iter().map(Into::into).collect(),
            last: false,
        }
    }

    /// The device of that name.
    pub(crate) fn find(&self, id: &str) -> Option<&Entry> {
        let mut entries = self.entries.iter().map(Arc::as_ref);
        entries.find(|entry| entry.has(id))
    }

    /// Whether what is offered changes when some of it is given out.
    pub(crate) fn is_shared(&self) -> bool {
        self.entries.iter().any(|entry| entry.shared)
    }

    /// How many devices there are.
    pub(crate) fn capacity(&self) -> usize {
        self.entries.iter().map(|entry| entry.count()).sum()
    }

    /// Whether the kubelet would see another list.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        fn shown(entry: &Arc<Entry>) -> (&str, Option<u32>, bool, Option<u32>) {
            let healthy = entry.health == Health::Healthy;
            (&entry.id, entry.slots, healthy, entry.numa)
        }
        self.entries
            .iter()
            .map(shown)
            .eq(other.entries.iter().map(shown))
    }
}

/// A resource's list, kept up to date by one task; nothing until it has looked.
pub(crate) type Sender = watch::Sender<Option<Arc<Listing>>>;
/// Whoever shows the list.
pub(crate) type Receiver = watch::Receiver<Option<Arc<Listing>>>;

/// A list before its first look.
pub(crate) fn channel() -> Sender {
    watch::Sender::new(None)
}

/// Shows a list, unless it is the one that is shown.
pub(crate) fn publish(sender: &Sender, now: Listing) {
    sender.send_if_modified(|before| {
        let change = before.as_deref() != Some(&now);
        if change {
            tell(before.as_deref(), &now);
            *before = Some(Arc::new(now));
        }
        change
    });
}

/// Logs whose health has changed.
fn tell(before: Option<&Listing>, now: &Listing) {
    let resource = now.resource.name.as_str();
    let before = before.into_iter().flat_map(|listing| &listing.entries);
    let mut before: BTreeMap<&str, &Health> =
        before.map(|entry| (&*entry.id, &entry.health)).collect();
    for entry in &now.entries {
        let device = &*entry.id;
        let before = before.remove(device);
        match &entry.health {
            health if Some(health) == before => {}
            Health::Unknown => {}
            Health::Healthy => tracing::info!(resource, device, "healthy"),
            Health::Unhealthy { reason }
                if before.is_some_and(|before| before.resembles(reason)) =>
            {
                tracing::debug!(resource, device, reason, "still unhealthy");
            }
            Health::Unhealthy { reason } if matches!(before, Some(Health::Unhealthy { .. })) => {
                tracing::warn!(resource, device, reason, "unhealthy for another reason");
            }
            Health::Unhealthy { reason } => {
                tracing::warn!(resource, device, reason, "unhealthy");
            }
        }
    }
    for device in before.into_keys() {
        tracing::warn!(resource, device, "gone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_another_unless_only_measurements_differ() {
        let health = Health::unhealthy("1000 instructions took 12.5 ms, 3 ms are allowed");
        assert!(health.resembles("1000 instructions took 13 ms, 3 ms are allowed"));
        assert!(!health.resembles("1000 instructions took 13 ms, 3 s are allowed"));
        assert!(!health.resembles("1000 instructions took"));
        let health = Health::unhealthy("IOMMU group 7 is in use as a/b 0000:01:00.0");
        assert!(health.resembles("IOMMU group 7 is in use as a/b 0000:01:00.0"));
        assert!(!health.resembles("IOMMU group 8 is in use as a/b 0000:01:00.0"));
        assert!(!health.resembles("IOMMU group 7 is in use as a/b 0000:01:00.1"));
        assert!(!Health::Healthy.resembles(""));
    }

    #[test]
    fn only_the_canonical_spelling_names_a_slot() {
        let kvm = Entry {
            slots: Some(3),
            ..Entry::new("kvm")
        };
        assert_eq!(kvm.ids().collect::<Vec<_>>(), ["kvm-0", "kvm-1", "kvm-2"]);
        assert!(kvm.ids().all(|id| kvm.has(&id)));
        assert_eq!(kvm.longest_id(), "kvm-2".len());
        for bad in [
            "kvm-3", "kvm-01", "kvm-+1", "kvm-", "kvm", "", "tun-0", "kvm--1", " kvm-0",
        ] {
            assert!(!kvm.has(bad), "{bad}");
        }
        let gpu = Entry::new("0000:3b:00.0");
        assert_eq!(gpu.ids().collect::<Vec<_>>(), ["0000:3b:00.0"]);
        assert_eq!(gpu.longest_id(), "0000:3b:00.0".len());
        assert!(gpu.has("0000:3b:00.0") && !gpu.has("0000:3b:00.0-0"));
    }
}
