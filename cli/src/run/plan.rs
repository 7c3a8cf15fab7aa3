//! What is to run: the manifests, checked before anything of the machine is
//! touched.

use std::path::PathBuf;

use coracle_api::names::ANNOTATION_IMPORTED;
use coracle_api::vm::Device;
use coracle_block::claim::Holder;
use coracle_controller::{Observed, Restarts, import};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

use super::Options;
use crate::failure::{Classify, Failure};
use crate::images::{self, Wanted};
use crate::manifest::Manifests;
use crate::node::{self, Host};
use crate::paths::Paths;
use crate::progress::Stages;
use crate::record::{ClaimUse, VmId};
use crate::report::size;
use crate::volume::{self, Access};

/// The pod of `coracle run` is always the VM's first.
const INCARNATION: u64 = 1;

/// More memory is asked for than there is.
#[derive(Debug, thiserror::Error)]
#[error(
    "VM {vm} needs {} of memory (guest and overhead), this machine has {}: lower spec.memory",
    size(*needed), size(*there)
)]
pub(super) struct NotEnoughMemory {
    vm: String,
    needed: u64,
    there: u64,
}

/// The VM is to have devices of the node.
#[derive(Debug, thiserror::Error)]
#[error(
    "VM {vm}: spec.devices asks for {devices}, which the device plugin of a cluster's node gives \
     out: one machine has none that knows which of its devices are for guests. Run the VM in a \
     cluster, or take spec.devices out"
)]
pub(super) struct DevicesNeedACluster {
    vm: String,
    devices: String,
}

/// A disk of the VM is to be filled first.
#[derive(Debug, thiserror::Error)]
#[error(
    "VM {vm}: disk {disk:?} is to be filled from {from}, which a cluster does before the VM starts: \
     here, fill it first (coracle-block import SOURCE DEVICE), and take the disk's `from` out or \
     give its PersistentVolumeClaim the annotation {ANNOTATION_IMPORTED}"
)]
pub(super) struct ImportNeedsACluster {
    vm: String,
    disk: String,
    from: String,
}

/// A disk of the VM is in a container image.
#[derive(Debug, thiserror::Error)]
#[error(
    "VM {vm}: disk {disk:?} is in image {reference}, which a cluster's node mounts: here, put its \
     file on a claim's volume (coracle-block import docker://{reference} DEVICE) and give the disk a \
     `claim` in place of `image`"
)]
pub(super) struct ImageNeedsACluster {
    vm: String,
    disk: String,
    reference: String,
}

/// The machine cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{file} cannot be read")]
pub(super) struct HostError {
    file: &'static str,
    source: std::io::Error,
}

/// What is to run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) vm: VmId,
    pub(super) manifests: Manifests,
    /// A new uid for the pod.
    pub(super) uid: String,
    /// The VM image.
    pub(super) image: String,
    pub(super) claims: Vec<ClaimUse>,
    pub(super) host: Host,
}

impl Plan {
    /// Reads the manifests and what of the machine decides about them.
    pub(super) async fn load(options: &Options, stages: &mut Stages) -> Result<Self, Failure> {
        let work = async { Self::read(options) };
        stages
            .run("manifest", "reading", work, |plan| plan.vm.to_string())
            .await
    }

    fn read(options: &Options) -> Result<Self, Failure> {
        let manifests = Manifests::load(&options.files).config()?;
        let metadata = &manifests.vm.metadata;
        let vm = VmId {
            namespace: metadata
                .namespace
                .clone()
                .unwrap_or_else(|| "default".to_owned()),
            name: metadata.name.clone().unwrap_or_default(),
        };
        let uid = read("/proc/sys/kernel/random/uuid")
            .host()?
            .trim()
            .to_owned();
        let claims = claim_uses(options, &manifests);
        let image = options
            .image
            .clone()
            .unwrap_or_else(|| images::reference("vm"));
        let host = host().host()?;
        let plan = Self {
            vm,
            manifests,
            uid,
            image,
            claims,
            host,
        };
        plan.check_devices().config()?;
        plan.check_imports().config()?;
        plan.check_images().config()?;
        plan.check_memory()?;
        Ok(plan)
    }

    fn check_devices(&self) -> Result<(), DevicesNeedACluster> {
        let devices = &self.manifests.vm.spec.devices;
        if devices.is_empty() {
            return Ok(());
        }
        let named = |device: &Device| format!("{:?} ({})", device.name, device.resource);
        Err(DevicesNeedACluster {
            vm: self.vm.to_string(),
            devices: devices.iter().map(named).collect::<Vec<_>>().join(", "),
        })
    }

    fn check_imports(&self) -> Result<(), ImportNeedsACluster> {
        let Manifests { vm, claims, .. } = &self.manifests;
        let mut pending = vm.spec.disks.iter().filter_map(|disk| {
            let claim = disk.claim_name(&self.vm.name)?;
            Some((disk, import::pending(disk, claims.get(&claim))?))
        });
        pending.next().map_or(Ok(()), |(disk, from)| {
            Err(ImportNeedsACluster {
                vm: self.vm.to_string(),
                disk: disk.name.clone(),
                from: from.to_string(),
            })
        })
    }

    fn check_images(&self) -> Result<(), ImageNeedsACluster> {
        let disks = &self.manifests.vm.spec.disks;
        let in_image = disks
            .iter()
            .find_map(|disk| Some((disk, disk.image.as_ref()?)));
        in_image.map_or(Ok(()), |(disk, image)| {
            Err(ImageNeedsACluster {
                vm: self.vm.to_string(),
                disk: disk.name.clone(),
                reference: image.reference.clone(),
            })
        })
    }

    fn check_memory(&self) -> Result<(), Failure> {
        // Claims count neither way; what is wrong with them is said later.
        let Ok(pod) = self.pod(&self.manifests.claims, |_| Vec::new()) else {
            return Ok(());
        };
        let needed = node::memory_request(&pod).config()?;
        let there = self.host.memory_bytes;
        if needed > there {
            return Err(NotEnoughMemory {
                vm: self.vm.to_string(),
                needed,
                there,
            })
            .host();
        }
        Ok(())
    }

    /// The pod that the controller makes of the VM and these claims.
    pub(super) fn pod(
        &self,
        claims: &std::collections::BTreeMap<String, PersistentVolumeClaim>,
        holders: impl Fn(&ClaimUse) -> Vec<Holder>,
    ) -> Result<Pod, coracle_controller::Refusal> {
        let observed = Observed {
            claims: claims.clone(),
            holders: self
                .claims
                .iter()
                .map(|use_| (use_.claim.clone(), holders(use_)))
                .collect(),
            ..Observed::default()
        };
        let settings = coracle_controller::Settings {
            image: self.image.clone(),
            importer: images::reference("importer"),
            restarts: Restarts::ByExitCode,
        };
        let mut pod =
            coracle_controller::pod(&self.manifests.vm, INCARNATION, &observed, &settings)?;
        pod.metadata.uid = Some(self.uid.clone());
        Ok(pod)
    }

    /// The VM image and where to find it.
    pub(super) fn vm_image(&self, options: &Options, paths: &Paths) -> Wanted {
        Wanted {
            reference: self.image.clone(),
            file: "vm.tar",
            given: options.image_archive.clone(),
            option: "--image-archive",
            directories: image_directories(options, paths),
        }
    }

    /// The image that holds the pod sandbox, and where to find it.
    pub(super) fn pause_image(options: &Options, paths: &Paths) -> Wanted {
        Wanted {
            reference: images::reference("pause"),
            file: "pause.tar",
            given: options.pause_archive.clone(),
            option: "--pause-archive",
            directories: image_directories(options, paths),
        }
    }
}

/// Beside an archive the user named, in the cache, in a checkout.
fn image_directories(options: &Options, paths: &Paths) -> Vec<PathBuf> {
    let beside = options
        .image_archive
        .as_ref()
        .and_then(|archive| archive.parent());
    let mut directories: Vec<PathBuf> = beside.map(PathBuf::from).into_iter().collect();
    directories.push(paths.image_cache());
    directories.push(PathBuf::from("target/images"));
    directories
}

fn claim_uses(options: &Options, manifests: &Manifests) -> Vec<ClaimUse> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let uses = volume::uses(&manifests.vm);
    let uses = uses.into_iter().filter_map(|(claim, access)| {
        let arg = options.volumes.iter().find(|arg| arg.claim == claim)?;
        let path = std::fs::canonicalize(&arg.path).unwrap_or_else(|_| arg.path.clone());
        let metadata = std::fs::metadata(&path).ok();
        let device = metadata
            .filter(|m| m.file_type().is_block_device())
            .map(|metadata| metadata.rdev());
        Some(ClaimUse {
            claim,
            read_only: access == Access::ReadOnly,
            shareable: access == Access::Shared,
            path,
            device,
        })
    });
    uses.collect()
}

fn read(file: &'static str) -> Result<String, HostError> {
    std::fs::read_to_string(file).map_err(|source| HostError { file, source })
}

fn host() -> Result<Host, HostError> {
    let meminfo = read("/proc/meminfo")?;
    let kibibytes = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(u64::MAX >> 10);
    Ok(Host {
        memory_bytes: kibibytes << 10,
        unified_cgroups: PathBuf::from("/sys/fs/cgroup/cgroup.controllers").exists(),
    })
}
