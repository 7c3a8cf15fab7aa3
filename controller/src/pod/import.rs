//! The init containers that fill disks before the guest first starts: in the
//! order of the disks, one after the other, each with its own disk alone.

use std::collections::BTreeMap;

use coracle_api::names::{IMPORT_DIR, TERMINATION_LOG};
use coracle_block::claim::{Attachment, ClaimPlan};
use k8s_openapi::api::core::v1::{
    Container, ResourceRequirements, Volume, VolumeDevice, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{container_security, restart_on};
use crate::Settings;
use crate::import::{Import, arguments, container_name};
use crate::plan::{PlannedSource, VmPlan};

/// The volume with the importers' records.
const RECORDS: &str = "imports";
/// A record is a line of text.
const RECORDS_SIZE: &str = "1Mi";
/// Twice what an import uses at most: buffers of sockets and page tables are
/// charged too. The `vm` container asks for more, and a pod is as large as its
/// largest container.
const MEMORY: &str = "128Mi";
/// Unpacking is work, and nothing else of the pod runs meanwhile.
const CPU: &str = "100m";
/// The exit code after which another attempt may go better: see
/// `api::names::exit`.
const RETRY: &[i32] = &[1];

/// The importers of the pod.
pub(super) fn containers(plan: &VmPlan<'_>, settings: &Settings) -> Option<Vec<Container>> {
    let containers: Vec<Container> = imports(plan)
        .map(|(disk, target, import)| container(disk, target, import, settings))
        .collect();
    Some(containers).filter(|containers| !containers.is_empty())
}

/// The volumes that only the importers use.
pub(super) fn volumes(plan: &VmPlan<'_>) -> Vec<Volume> {
    let mut volumes: Vec<Volume> = Vec::new();
    for (_, target, import) in imports(plan) {
        let records = super::volumes::empty_dir(RECORDS.into(), None, Some(RECORDS_SIZE.into()));
        let source = import.claim.as_ref().map(|claim| claim.volume.clone());
        let records = Some(records).filter(|_| is_block(target));
        for volume in records.into_iter().chain(source) {
            // Two disks can be filled from one claim, and the kernel's claim
            // is there anyhow.
            let kernel = volume.name == super::volumes::KERNEL;
            if !kernel && volumes.iter().all(|known| known.name != volume.name) {
                volumes.push(volume);
            }
        }
    }
    volumes
}

fn imports<'a>(
    plan: &'a VmPlan<'_>,
) -> impl Iterator<Item = (&'a str, &'a ClaimPlan, &'a Import<'a>)> {
    plan.disks.iter().filter_map(|planned| {
        let PlannedSource::Claim(target) = &planned.source else {
            return None;
        };
        let import = planned.import.as_ref()?;
        Some((planned.disk.name.as_str(), target.as_ref(), import))
    })
}

fn is_block(claim: &ClaimPlan) -> bool {
    matches!(claim.attachment, Attachment::Block(_))
}

fn container(
    disk: &str,
    target: &ClaimPlan,
    import: &Import<'_>,
    settings: &Settings,
) -> Container {
    let (mut devices, mut mounts): (Vec<VolumeDevice>, Vec<VolumeMount>) = (vec![], vec![]);
    for claim in [Some(target), import.claim.as_ref()].into_iter().flatten() {
        match &claim.attachment {
            Attachment::Block(device) => devices.push(device.clone()),
            Attachment::Filesystem { mount, .. } => mounts.push(mount.clone()),
        }
    }
    if is_block(target) {
        mounts.push(VolumeMount {
            name: RECORDS.into(),
            mount_path: IMPORT_DIR.into(),
            ..VolumeMount::default()
        });
    }
    let rules = restart_on(RETRY, settings.restarts);
    let memory = ("memory".to_owned(), Quantity(MEMORY.into()));
    let cpu = ("cpu".to_owned(), Quantity(CPU.into()));
    Container {
        name: container_name(disk),
        image: Some(settings.importer.clone()),
        args: Some(arguments(disk, import, &target.source)),
        resources: Some(ResourceRequirements {
            limits: Some(BTreeMap::from([memory.clone()])),
            requests: Some(BTreeMap::from([cpu, memory])),
            ..ResourceRequirements::default()
        }),
        restart_policy: rules.as_ref().map(|_| "Never".into()),
        restart_policy_rules: rules,
        security_context: Some(container_security()),
        termination_message_path: Some(TERMINATION_LOG.into()),
        termination_message_policy: Some("File".into()),
        volume_devices: Some(devices).filter(|devices| !devices.is_empty()),
        volume_mounts: Some(mounts).filter(|mounts| !mounts.is_empty()),
        ..Container::default()
    }
}

#[cfg(test)]
mod tests;
