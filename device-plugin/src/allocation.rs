//! What a container that was given some devices gets, or why it does not get
//! them. Pure: answers come from memory.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::config::Grant;
use crate::grant::cdi_name;
use crate::holdings::Holdings;
use crate::listing::{Entry, Key, Listing};
use crate::resource::{Compatibility, GrantedMount, Kind, Resource};

/// Why devices cannot be handed out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocateError {
    /// The plugin has no such device.
    #[error("{resource} has no device {id:?}")]
    UnknownDevice {
        /// The resource.
        resource: String,
        /// The device.
        id: String,
    },
    /// The device cannot be used now.
    #[error("{resource}: device {id:?} is unhealthy: {reason}")]
    Unhealthy {
        /// The resource.
        resource: String,
        /// The device.
        id: String,
        /// Why.
        reason: String,
    },
    /// What the device belongs to was given to another container.
    #[error("{resource}: device {id:?} cannot be given out: {what} is in use as {holder}")]
    InUse {
        /// The resource.
        resource: String,
        /// The device.
        id: String,
        /// What is in use.
        what: String,
        /// The names under which it is.
        holder: String,
    },
    /// A container was given no device.
    #[error("{resource}: a container without devices")]
    Nothing {
        /// The resource.
        resource: String,
    },
}

impl AllocateError {
    /// The reason in one word, as the metrics have it.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::UnknownDevice { .. } => "unknown_device",
            Self::Unhealthy { .. } => "unhealthy",
            Self::InUse { .. } => "in_use",
            Self::Nothing { .. } => "no_device",
        }
    }
}

impl From<AllocateError> for tonic::Status {
    fn from(error: AllocateError) -> Self {
        let code = match &error {
            AllocateError::UnknownDevice { .. } => tonic::Code::NotFound,
            AllocateError::Unhealthy { .. } | AllocateError::InUse { .. } => {
                tonic::Code::FailedPrecondition
            }
            AllocateError::Nothing { .. } => tonic::Code::InvalidArgument,
        };
        Self::new(code, error.to_string())
    }
}

/// What a container gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    /// Environment variables.
    pub(crate) envs: BTreeMap<String, String>,
    /// Device nodes: path in the container, path on the host.
    pub(crate) nodes: BTreeMap<String, String>,
    /// Devices that the runtime makes from a CDI specification.
    pub(crate) cdi: BTreeSet<String>,
    /// The directory that comes with it.
    pub(crate) mount: Option<GrantedMount>,
}

/// What each of some containers gets that were given these devices. Nothing is
/// given out when one of them cannot be served.
pub(crate) fn allocate(
    listing: &Listing,
    grant: &Grant,
    holdings: &mut Holdings,
    containers: &[&[String]],
    now: Instant,
) -> Result<Vec<Granted>, AllocateError> {
    let mut taken: BTreeMap<Key, BTreeSet<String>> = BTreeMap::new();
    let mut answers = vec![];
    for ids in containers {
        let entries = entries(listing, ids)?;
        for (key, ids) in keys(&entries) {
            let resource = &listing.resource.name;
            let holder = holdings.conflict(&key, resource, &ids);
            let holder = holder.map(|holder| named(&holder.resource, &holder.ids));
            let twice = taken.get(&key).map(|ids| named(resource, ids));
            if let Some(holder) = holder.or(twice) {
                return Err(AllocateError::InUse {
                    resource: resource.clone(),
                    id: ids.into_iter().next().unwrap_or_default(),
                    what: key.to_string(),
                    holder,
                });
            }
            taken.insert(key, ids);
        }
        answers.push(granted(&listing.resource, grant, ids, &entries));
    }
    for (key, ids) in taken {
        holdings.take(key, &listing.resource.name, ids, now);
    }
    Ok(answers)
}

/// The devices of one container, if all can be handed out.
fn entries<'a>(listing: &'a Listing, ids: &[String]) -> Result<Vec<&'a Entry>, AllocateError> {
    let resource = || listing.resource.name.clone();
    if ids.is_empty() {
        return Err(AllocateError::Nothing {
            resource: resource(),
        });
    }
    let find = |id: &String| {
        let unknown = || AllocateError::UnknownDevice {
            resource: resource(),
            id: id.clone(),
        };
        listing.find(id).ok_or_else(unknown)
    };
    let found: Vec<&Entry> = ids.iter().map(find).collect::<Result<_, _>>()?;
    for (id, entry) in ids.iter().zip(&found) {
        if let Some(reason) = entry.health.reason() {
            return Err(AllocateError::Unhealthy {
                resource: resource(),
                id: id.clone(),
                reason: reason.to_owned(),
            });
        }
    }
    Ok(found)
}

/// What is given out with the devices, each with the devices' names.
fn keys(entries: &[&Entry]) -> BTreeMap<Key, BTreeSet<String>> {
    let mut keys: BTreeMap<Key, BTreeSet<String>> = BTreeMap::new();
    for entry in entries {
        if let Some(key) = &entry.key {
            keys.entry(key.clone())
                .or_default()
                .insert(entry.id.to_string());
        }
    }
    keys
}

/// Devices as messages name them.
pub(crate) fn named(resource: &str, ids: &BTreeSet<String>) -> String {
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    format!("{resource} {}", ids.join(", "))
}

fn granted(resource: &Resource, grant: &Grant, ids: &[String], entries: &[&Entry]) -> Granted {
    let mut granted = Granted {
        envs: resource.envs.clone(),
        mount: resource.mount.clone(),
        ..Granted::default()
    };
    granted.envs.insert(resource.env(), ids.join(","));
    granted.envs.extend(compatible(resource, entries));
    match grant {
        Grant::Node { dir } => {
            for node in entries.iter().flat_map(|entry| &entry.nodes) {
                let host = dir.join(node.own()).display().to_string();
                granted.nodes.insert(node.container(), host);
            }
        }
        Grant::Cdi { .. } => {
            let names = entries.iter().map(|entry| {
                let device = resource.cdi_device.unwrap_or(&entry.id);
                cdi_name(&resource.cdi, device)
            });
            granted.cdi = names.collect();
        }
    }
    granted
}

/// The variables by which others name the devices.
fn compatible(resource: &Resource, entries: &[&Entry]) -> Vec<(String, String)> {
    let upper = resource.name.to_uppercase().replace(['.', '/'], "_");
    let join = |name: fn(&Entry) -> String| {
        let names: Vec<_> = entries.iter().map(|entry| name(entry)).collect();
        names.join(",")
    };
    let ids = || join(|entry| entry.id.to_string());
    let usb = |entry: &Entry| entry.usb.map_or_else(String::new, |usb| usb.to_string());
    let variable = |compatibility: &Compatibility| match (compatibility, resource.kind) {
        (Compatibility::Kubevirt, Kind::Pci) => Some((format!("PCI_RESOURCE_{upper}"), ids())),
        (Compatibility::Kubevirt, Kind::Mdev) => {
            Some((format!("MDEV_PCI_RESOURCE_{upper}"), ids()))
        }
        (Compatibility::Kubevirt, Kind::Usb) => Some((format!("USB_RESOURCE_{upper}"), join(usb))),
        (Compatibility::Sriov, Kind::Pci) => Some((format!("PCIDEVICE_{upper}"), ids())),
        (Compatibility::Kubevirt, Kind::Chardev)
        | (Compatibility::Sriov, Kind::Mdev | Kind::Usb | Kind::Chardev) => None,
    };
    let variables = resource.compatibility.iter().filter_map(variable);
    variables.collect()
}

#[cfg(test)]
mod tests;
