//! A claim in plain words: how it reaches a guest, and what can be done with
//! it, each with the reason.
//!
//! Pure: the caller has looked up what stands behind the claim. Nothing here
//! decides anything; [`plan`](super::plan) does.

use std::fmt;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde::Serialize;

use super::facts::{ClassKnown, NodeFacts, StorageFacts};
use super::{Holder, access_modes, storage_class, volume_mode};
use coracle_api::names::{BLOCK_DIR, DISK_DIR, DISK_IMAGE};

/// All that is said of a claim is made from this.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The claim.
    pub claim: &'a PersistentVolumeClaim,
    /// What stands behind it.
    pub storage: &'a StorageFacts,
    /// The nodes' CSI drivers.
    pub nodes: &'a [NodeFacts],
    /// Names of the `VolumeSnapshotClass`es of the claim's driver; `None`
    /// when the cluster has no snapshots at all.
    pub snapshot_classes: Option<&'a [String]>,
    /// The pods that use it.
    pub holders: &'a [Holder],
}

/// What there is to say of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The claim's name.
    pub claim: String,
    /// What it is: phase, size, modes, class, volume.
    pub is: String,
    /// How it reaches the guest.
    pub reaches: String,
    /// What can be done with it.
    pub abilities: Vec<Ability>,
}

/// Whether something can be done with a claim, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ability {
    /// What: `share`, `expand`, `snapshot` or `migrate`.
    pub what: &'static str,
    /// Whether it can be done.
    pub can: bool,
    /// Why, or why not.
    pub why: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "claim {}: {}", self.claim, self.is)?;
        write!(f, "  reaches the guest: {}", self.reaches)?;
        for ability in &self.abilities {
            let verdict = if ability.can { "yes" } else { "no" };
            write!(f, "\n  {}: {verdict}: {}", ability.what, ability.why)?;
        }
        Ok(())
    }
}

/// Explains a claim.
#[must_use]
pub fn explain(subject: &Subject<'_>) -> Explanation {
    Explanation {
        claim: subject.claim.metadata.name.clone().unwrap_or_default(),
        is: is(subject),
        reaches: reaches(subject),
        abilities: vec![
            share(subject),
            expand(subject),
            snapshot(subject),
            migrate(subject),
        ],
    }
}

fn is(subject: &Subject<'_>) -> String {
    let claim = subject.claim;
    let status = claim.status.as_ref();
    let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or("Pending");
    let capacity = status.and_then(|s| s.capacity.as_ref()?.get("storage"));
    let size = capacity.map_or(String::new(), |size| format!(", {}", size.0));
    let class = storage_class(claim).filter(|class| !class.is_empty());
    let class = class.map_or_else(
        || "no storage class".to_owned(),
        |class| format!("storage class {class}"),
    );
    let volume = match subject.storage.volume.as_deref() {
        None => "no volume yet".to_owned(),
        Some(volume) => match &volume.driver {
            Some(driver) => format!("a volume of CSI driver {driver}"),
            None => format!("a {} volume", volume.kind),
        },
    };
    format!(
        "{phase}{size}, {}, {}, {class}, {volume}",
        volume_mode(claim),
        access_modes(claim).join(" "),
    )
}

fn reaches(subject: &Subject<'_>) -> String {
    let mut steps = vec![];
    let driver = subject.storage.driver.as_deref();
    if let Some(driver) = driver {
        let name = &driver.name;
        steps.push(if driver.attach_required {
            format!("{name} attaches the volume to the pod's node")
        } else {
            format!("{name} needs no attaching: the node publishes the volume by itself")
        });
    }
    if volume_mode(subject.claim) == "Block" {
        steps.push(format!(
            "the kubelet maps the device to {BLOCK_DIR}/DISK in the pod; the guest gets it sector by \
             sector, with no file system between"
        ));
    } else {
        let group = driver.map_or("", |driver| match driver.fs_group_policy.as_str() {
            "None" => {
                " (fsGroupPolicy None: the driver must let gid 107 write, the kubelet changes no owner)"
            }
            "File" => " (fsGroupPolicy File: the kubelet gives the files to gid 107)",
            _ => "",
        });
        steps.push(format!(
            "the kubelet mounts the file system at {DISK_DIR}/DISK{group}; the guest gets the file \
             {DISK_IMAGE} in it"
        ));
    }
    if let Some(nodes) = subject
        .storage
        .volume
        .as_deref()
        .and_then(|v| v.nodes.as_deref())
    {
        steps.push(format!("only on nodes with {nodes}"));
    }
    if let Some(driver) = driver {
        steps.extend(limits(&driver.name, subject.nodes));
    }
    steps.join("; ")
}

fn limits(driver: &str, nodes: &[NodeFacts]) -> Option<String> {
    if nodes.is_empty() {
        return None;
    }
    let running = NodeFacts::running(driver, nodes);
    if running.is_empty() {
        return Some(format!("no node runs {driver} now, so no pod can use it"));
    }
    let least = running.values().flatten().min()?;
    Some(format!(
        "{} node(s) run it, and one takes {least} of its volumes at most",
        running.len()
    ))
}

fn share(subject: &Subject<'_>) -> Ability {
    let modes = access_modes(subject.claim);
    let has = |mode: &str| modes.iter().any(|found| found == mode);
    let by = match subject.holders {
        [] => String::new(),
        holders => {
            let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
            format!("; in use by {}", names.join(", "))
        }
    };
    let (can, why) = if has("ReadWriteMany") {
        (
            true,
            "ReadWriteMany: VMs that all say shareable: true with cache None can have it at once, on \
             any nodes; their guests need a cluster file system",
        )
    } else if has("ReadWriteOncePod") {
        (
            false,
            "ReadWriteOncePod: one pod in the cluster can have it",
        )
    } else if has("ReadWriteOnce") {
        (
            true,
            "ReadWriteOnce: VMs on one node that all say shareable: true with cache None can have it; \
             on several nodes it takes ReadWriteMany",
        )
    } else {
        (true, "ReadOnlyMany: any number of VMs can read it")
    };
    ability("share", can, format!("{why}{by}"))
}

fn expand(subject: &Subject<'_>) -> Ability {
    let says = |can, why: String| ability("expand", can, why);
    match &subject.storage.class {
        ClassKnown::Known(class) if class.expandable => says(
            true,
            format!(
                "storage class {} allows expansion: raise the claim's resources.requests.storage, or \
                 claimTemplate.size where a VM has it from a template; the guest sees it while it runs",
                class.name
            ),
        ),
        ClassKnown::Known(class) => says(
            false,
            format!(
                "storage class {} does not set allowVolumeExpansion: true",
                class.name
            ),
        ),
        ClassKnown::Missing => says(
            false,
            format!(
                "storage class {} does not exist",
                storage_class(subject.claim).unwrap_or_default()
            ),
        ),
        ClassKnown::Unasked => says(
            false,
            "the claim has no storage class, and only classes allow expansion".to_owned(),
        ),
    }
}

fn snapshot(subject: &Subject<'_>) -> Ability {
    let says = |can, why: String| ability("snapshot", can, why);
    let driver = subject.storage.driver.as_deref();
    match (driver, subject.snapshot_classes) {
        (None, _) => says(
            false,
            "the volume is not a CSI driver's, and only those have snapshots".to_owned(),
        ),
        (Some(_), None) => says(
            false,
            "the cluster has no VolumeSnapshot resources: install the snapshot controller"
                .to_owned(),
        ),
        (Some(driver), Some([])) => says(
            false,
            format!("no VolumeSnapshotClass names driver {}", driver.name),
        ),
        (Some(_), Some(classes)) => says(
            true,
            format!("with VolumeSnapshotClass {}", classes.join(" or ")),
        ),
    }
}

fn migrate(subject: &Subject<'_>) -> Ability {
    let many = |mode: &String| mode == "ReadWriteMany";
    let volume = subject.storage.volume.as_deref();
    let (can, why) = match volume.and_then(|volume| volume.nodes.as_deref()) {
        _ if !access_modes(subject.claim).iter().any(many) => (
            false,
            "a running VM can move only with ReadWriteMany, because two nodes have the volume for a \
             moment; stopped, it starts wherever the volume can be used"
                .to_owned(),
        ),
        Some(nodes) => (true, format!("ReadWriteMany, among nodes with {nodes}")),
        None => (true, "ReadWriteMany, to any node".to_owned()),
    };
    ability("migrate", can, why)
}

fn ability(what: &'static str, can: bool, why: String) -> Ability {
    Ability { what, can, why }
}

#[cfg(test)]
mod tests;
