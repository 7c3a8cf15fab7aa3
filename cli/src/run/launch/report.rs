//! What a launch puts into the report.

use super::Launch;
use crate::devices::Grant;
use crate::report::{AllocateAnswer, DeviceGrant, DiskReport};
use crate::volume;

impl Launch<'_> {
    pub(super) fn disk_reports(&self) -> Vec<DiskReport> {
        let disks = self.plan.manifests.vm.spec.disks.iter();
        disks.filter_map(|disk| self.disk_report(disk)).collect()
    }

    fn disk_report(&self, disk: &coracle_api::vm::Disk) -> Option<DiskReport> {
        let claim = &disk.claim.as_ref()?.name;
        let attached = self.attached.get(claim)?;
        let use_ = self.plan.claims.iter().find(|use_| use_.claim == *claim)?;
        let capacity = attached
            .claim()
            .status
            .as_ref()
            .and_then(|status| status.capacity.as_ref());
        let bytes = capacity.and_then(|c| crate::volume::quantity::bytes(&c.get("storage")?.0));
        let directory = match attached.volume() {
            volume::AttachedVolume::Block(_) => coracle_api::names::BLOCK_DIR,
            volume::AttachedVolume::Directory(_) => coracle_api::names::DISK_DIR,
        };
        Some(DiskReport {
            disk: disk.name.clone(),
            claim: claim.clone(),
            path: use_.path.clone(),
            host: attached.volume().path().to_path_buf(),
            loop_device: attached.record().loop_device.map(|device| device.path),
            container_path: format!("{directory}/{}", disk.name),
            bytes,
            serial: disk.serial.clone(),
        })
    }
}

pub(super) fn grant_report(grant: &Grant) -> DeviceGrant {
    DeviceGrant {
        resource: grant.resource.clone(),
        ids: grant.ids.clone(),
        answer: AllocateAnswer::from(&grant.answer),
    }
}
