//! The claims that a pod uses.

use coracle_api::machine::Machine;
use coracle_api::names::ANNOTATION_MACHINE;
use coracle_block::claim::volume_name;
use k8s_openapi::api::core::v1::{Container, Pod};

/// A claim in a pod.
#[derive(Clone, Debug)]
pub(super) struct ClaimUse {
    pub(super) claim: String,
    pub(super) read_only: bool,
    pub(super) shareable: bool,
}

/// The claims of a pod that has not ended. `owned` says that it is a VM's.
pub(super) fn claims(pod: &Pod, owned: bool) -> Vec<ClaimUse> {
    let machine = pod.metadata.annotations.as_ref();
    let machine = machine
        .and_then(|annotations| annotations.get(ANNOTATION_MACHINE))
        .and_then(|json| Machine::from_json(json).ok());
    let shareable = |volume: &str| {
        let disks = machine.as_ref().map_or(&[][..], |m| m.disks.as_slice());
        let mut disks = disks.iter();
        disks.any(|disk| disk.shareable && volume_name(&disk.name) == volume)
    };
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
    let claims = volumes.unwrap_or_default().iter().filter_map(|volume| {
        let claim = volume.persistent_volume_claim.as_ref()?;
        if owned && is_done_with(pod, &volume.name) {
            return None;
        }
        Some(ClaimUse {
            claim: claim.claim_name.clone(),
            read_only: claim.read_only.unwrap_or_default(),
            shareable: shareable(&volume.name),
        })
    });
    claims.collect()
}

/// Whether only importers had the volume, and all of them have ended well: the
/// claim that a disk was filled from is not in use any more.
fn is_done_with(pod: &Pod, volume: &str) -> bool {
    let has = |container: &&Container| {
        let devices = container.volume_devices.iter().flatten();
        let mounts = container.volume_mounts.iter().flatten();
        devices
            .map(|device| &device.name)
            .any(|name| name == volume)
            || mounts.map(|mount| &mount.name).any(|name| name == volume)
    };
    let Some(spec) = &pod.spec else { return false };
    let mut users = spec.init_containers.iter().flatten().filter(has).peekable();
    if spec.containers.iter().any(|container| has(&container)) || users.peek().is_none() {
        return false;
    }
    let status = pod.status.as_ref();
    let statuses = status.and_then(|status| status.init_container_statuses.as_deref());
    users.all(|user| {
        let mut statuses = statuses.unwrap_or_default().iter();
        let state = statuses.find(|status| status.name == user.name);
        let ended = state.and_then(|status| status.state.as_ref()?.terminated.as_ref());
        ended.is_some_and(|ended| ended.exit_code == 0)
    })
}
