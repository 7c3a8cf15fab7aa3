//! What is worth knowing of the objects behind a claim: its volume, its
//! storage class, its CSI driver. Read once from the API's objects, of which
//! nothing else is kept, so that ten thousand volumes fit in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelectorTerm, PersistentVolume, PersistentVolumeSpec};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, StorageClass};

/// What stands behind a claim, as far as the caller knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StorageFacts {
    /// The volume it is bound to.
    pub volume: Option<Arc<VolumeFacts>>,
    /// Its storage class.
    pub class: ClassKnown,
    /// The CSI driver of the volume, or of the class.
    pub driver: Option<Arc<DriverFacts>>,
}

/// What is known of a claim's storage class.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ClassKnown {
    /// Nothing: nobody asked.
    #[default]
    Unasked,
    /// The claim names a class that does not exist.
    Missing,
    /// The class.
    Known(Arc<ClassFacts>),
}

/// A `PersistentVolume`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VolumeFacts {
    /// What it is: `CSI`, `local`, `hostPath`, `NFS` or `another kind`.
    pub kind: &'static str,
    /// Its CSI driver.
    pub driver: Option<Box<str>>,
    /// The nodes that reach it, in words; `None` when all do.
    pub nodes: Option<Box<str>>,
    /// What becomes of it once the claim is deleted.
    pub reclaim_policy: Box<str>,
}

/// A `StorageClass`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClassFacts {
    /// Its name.
    pub name: String,
    /// Who makes its volumes.
    pub provisioner: String,
    /// Whether its claims may grow.
    pub expandable: bool,
    /// Whether a claim is bound once a pod uses it, and not before.
    pub waits_for_consumer: bool,
}

/// A `CSIDriver`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DriverFacts {
    /// Its name.
    pub name: String,
    /// Whether its volumes are attached to a node before they are used.
    pub attach_required: bool,
    /// `fsGroupPolicy`: whether the kubelet gives files to the VM's group.
    pub fs_group_policy: String,
}

/// A node's part in a CSI driver, from `CSINode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// The node.
    pub node: String,
    /// The driver.
    pub driver: String,
    /// How many of its volumes the node takes at most.
    pub limit: Option<i32>,
}

/// What makes no volumes: a class for static ones.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

impl VolumeFacts {
    /// Reads a volume.
    #[must_use]
    pub fn of(volume: &PersistentVolume) -> Self {
        let spec = volume.spec.clone().unwrap_or_default();
        let affinity = spec.node_affinity.as_ref();
        let required = affinity.and_then(|affinity| affinity.required.as_ref());
        let terms = required.map(|selector| selector.node_selector_terms.as_slice());
        Self {
            kind: kind(&spec),
            driver: spec.csi.as_ref().map(|csi| csi.driver.as_str().into()),
            nodes: terms.map(|terms| words(terms).into()),
            reclaim_policy: spec
                .persistent_volume_reclaim_policy
                .as_deref()
                .unwrap_or("Retain")
                .into(),
        }
    }
}

fn kind(spec: &PersistentVolumeSpec) -> &'static str {
    match spec {
        PersistentVolumeSpec { csi: Some(_), .. } => "CSI",
        PersistentVolumeSpec { local: Some(_), .. } => "local",
        PersistentVolumeSpec {
            host_path: Some(_), ..
        } => "hostPath",
        PersistentVolumeSpec { nfs: Some(_), .. } => "NFS",
        _ => "another kind",
    }
}

/// A node selector as a person would say it.
fn words(terms: &[NodeSelectorTerm]) -> String {
    let of_term = |term: &NodeSelectorTerm| {
        let requirements = term.match_expressions.iter().flatten();
        let fields = term.match_fields.iter().flatten();
        let all: Vec<String> = requirements
            .chain(fields)
            .map(|r| {
                let values = r.values.clone().unwrap_or_default().join(", ");
                let text = format!("{} {} {values}", r.key, r.operator);
                text.trim_end().to_owned()
            })
            .collect();
        all.join(" and ")
    };
    terms.iter().map(of_term).collect::<Vec<_>>().join(", or ")
}

impl ClassFacts {
    /// Reads a class.
    #[must_use]
    pub fn of(class: &StorageClass) -> Self {
        Self {
            name: class.metadata.name.clone().unwrap_or_default(),
            provisioner: class.provisioner.clone(),
            expandable: class.allow_volume_expansion.unwrap_or_default(),
            waits_for_consumer: class.volume_binding_mode.as_deref()
                == Some("WaitForFirstConsumer"),
        }
    }
}

impl DriverFacts {
    /// Reads a driver.
    #[must_use]
    pub fn of(driver: &CSIDriver) -> Self {
        let spec = &driver.spec;
        Self {
            name: driver.metadata.name.clone().unwrap_or_default(),
            attach_required: spec.attach_required.unwrap_or(true),
            fs_group_policy: spec
                .fs_group_policy
                .clone()
                .unwrap_or_else(|| "ReadWriteOnceWithFSType".to_owned()),
        }
    }
}

impl NodeFacts {
    /// Reads the drivers of a node.
    #[must_use]
    pub fn of(node: &CSINode) -> Vec<Self> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let drivers = node.spec.drivers.iter();
        let facts = drivers.map(|driver| Self {
            node: name.clone(),
            driver: driver.name.clone(),
            limit: driver.allocatable.as_ref().and_then(|room| room.count),
        });
        facts.collect()
    }

    /// The nodes that run a driver, each with its limit.
    #[must_use]
    pub fn running(driver: &str, all: &[Self]) -> BTreeMap<String, Option<i32>> {
        let of = all.iter().filter(|facts| facts.driver == driver);
        of.map(|facts| (facts.node.clone(), facts.limit)).collect()
    }
}
