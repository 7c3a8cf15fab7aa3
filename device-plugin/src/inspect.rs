//! What this node would advertise, and what stands in the way. Looks only:
//! nothing is made, nobody is told, no kubelet is needed.

mod text;

use std::path::PathBuf;
use std::sync::Arc;

use coracle_api::names::RESOURCE_KVM;
use coracle_kvm_probe::{Level, probe};
use serde::Serialize;
use tokio::time::Instant;

use crate::check::{CheckError, Checked, chain, node, numbers};
use crate::config::{Config, Grant};
use crate::grant;
use crate::holdings::{Holdings, InUse};
use crate::listing::{Entry, Health, Key};
use crate::node::Node;
use crate::resource::{Kind, Resource};
use crate::settings::Settings;
use crate::socket::SocketId;
use crate::stock::{load, survey};

/// What this node would advertise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The kubelet's socket.
    pub kubelet_socket: PathBuf,
    /// Whether it is there.
    pub kubelet_present: bool,
    /// How containers get devices.
    pub grant: String,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// The resources, the built-in ones first.
    pub resources: Vec<InspectedResource>,
    /// What stands in the way of all of them, one sentence each.
    pub missing: Vec<String>,
}

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InspectedResource {
    /// Its name.
    pub resource: String,
    /// What it is of: chardev, pci, mdev or usb.
    pub kind: String,
    /// How many devices the kubelet would count.
    pub capacity: usize,
    /// How many of them pods could have.
    pub allocatable: usize,
    /// The devices.
    pub devices: Vec<InspectedDevice>,
    /// How far KVM is probed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Level>,
    /// What the probe measured, if it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions_per_second: Option<u64>,
    /// What stands in the way, one sentence each.
    pub missing: Vec<String>,
}

/// A device, or many slots of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InspectedDevice {
    /// Its name.
    pub id: String,
    /// How many slots it has, if it is shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Whether it can be given out.
    pub healthy: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The NUMA node it is at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// Its IOMMU group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iommu_group: Option<u32>,
    /// What a container gets.
    pub nodes: Vec<InspectedNode>,
}

/// A device node of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InspectedNode {
    /// Where the container finds it.
    pub path: String,
    /// Its numbers.
    pub numbers: Checked,
    /// Where it comes from.
    pub from: PathBuf,
    /// Whether that is there and right; the plugin makes it when it runs.
    pub ready: bool,
}

/// Looks at this node.
#[must_use]
pub fn inspect(config: &Config) -> Inspection {
    let kubelet_socket = config.kubelet_socket();
    let kubelet_present = SocketId::of(&kubelet_socket).is_some();
    let mut missing = vec![];
    if !kubelet_present {
        missing.push(format!(
            "{} is not there: no kubelet runs, or it keeps its plugins elsewhere (--kubelet-dir)",
            kubelet_socket.display()
        ));
    }
    let mut resources = vec![];
    if config.kvm_count > 0 {
        resources.push(kvm(config));
    }
    let settings = match config
        .file
        .as_ref()
        .map(|path| load(path).and_then(|(_, read)| read))
    {
        None => Settings::default(),
        Some(Ok(settings)) => settings,
        Some(Err(error)) => {
            missing.push(error.to_string());
            Settings::default()
        }
    };
    let inventory = survey(config, &settings, false).inventory;
    for listing in inventory.offer(&nothing_held(config)) {
        resources.push(resource(config, &listing.resource, &listing.entries));
    }
    let grant = match &config.grant {
        Grant::Node { dir } => format!("device nodes in {}", dir.display()),
        Grant::Cdi { dir } => format!("CDI specifications in {}", dir.display()),
    };
    Inspection {
        kubelet_socket,
        kubelet_present,
        grant,
        config: config.file.clone(),
        resources,
        missing,
    }
}

/// What the plugin would offer before anything is given out.
fn nothing_held(config: &Config) -> Holdings {
    let mut holdings = Holdings::default();
    if config.pod_resources.is_some() {
        holdings.observe(&InUse::new(), Instant::now(), |_, _| None);
    }
    holdings
}

fn kvm(config: &Config) -> InspectedResource {
    let device = config.kvm_device();
    let probed = numbers(&device).and_then(|_| Ok(probe(&device, config.level)?));
    let health = match (&probed, &config.prober) {
        (Ok(_), _) => Health::Healthy,
        (Err(error), Some(_)) if CheckError::is_closed(error) => Health::unhealthy(format!(
            "only the prober can tell whether a guest runs on {}, because this process may not \
             open it: the plugin's log has what the prober reports",
            device.display()
        )),
        (Err(error), _) => Health::unhealthy(chain(error)),
    };
    let entry = Entry {
        slots: Some(config.kvm_count),
        health,
        nodes: node(config).into_iter().collect(),
        ..Entry::new("kvm")
    };
    let speed = probed
        .ok()
        .and_then(|report| report.instructions_per_second);
    InspectedResource {
        probe: Some(config.level),
        instructions_per_second: speed,
        ..resource(
            config,
            &Resource::new(RESOURCE_KVM, Kind::Chardev, vec![]),
            &[Arc::new(entry)],
        )
    }
}

fn resource(config: &Config, resource: &Resource, entries: &[Arc<Entry>]) -> InspectedResource {
    let healthy = |entry: &&Arc<Entry>| entry.health == Health::Healthy;
    let mut missing: Vec<String> = vec![];
    if entries.is_empty() {
        missing.push("this node has no device that the configuration selects".into());
    }
    for entry in entries {
        if let Some(reason) = entry.health.reason() {
            missing.push(match entry.slots {
                Some(_) => reason.to_owned(),
                None => format!("{}: {reason}", entry.id),
            });
        }
    }
    InspectedResource {
        resource: resource.name.clone(),
        kind: format!("{:?}", resource.kind).to_lowercase(),
        capacity: entries.iter().map(|entry| entry.count()).sum(),
        allocatable: entries
            .iter()
            .filter(healthy)
            .map(|entry| entry.count())
            .sum(),
        devices: entries
            .iter()
            .map(|entry| device(config, resource, entry))
            .collect(),
        probe: None,
        instructions_per_second: None,
        missing,
    }
}

fn device(config: &Config, resource: &Resource, entry: &Entry) -> InspectedDevice {
    let node = |node: &Node| {
        let from = config.grant.path(&resource.cdi, &node.own());
        let ready = match &config.grant {
            Grant::Node { .. } => grant::is_right(&from, node.rdev),
            Grant::Cdi { .. } => from.is_file(),
        };
        InspectedNode {
            path: node.container(),
            numbers: node.rdev.into(),
            from,
            ready,
        }
    };
    InspectedDevice {
        id: entry.id.to_string(),
        slots: entry.slots,
        healthy: entry.health == Health::Healthy,
        reason: entry.health.reason().map(ToOwned::to_owned),
        numa_node: entry.numa,
        iommu_group: match &entry.key {
            Some(Key::Group(group)) => Some(*group),
            Some(Key::Usb(_) | Key::Node(_)) | None => None,
        },
        nodes: entry.nodes.iter().map(node).collect(),
    }
}
