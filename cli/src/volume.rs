//! Persistent volume claims on one machine: what a CSI driver and the
//! attach/detach controller do in a cluster, done with a path the user names.
//!
//! A claim of `volumeMode: Block` is played by a block device or, through a
//! loop device, by an image file; one of `volumeMode: Filesystem` by a
//! directory. The VM gets a device node of its own (`root:disk`, 0660, as udev
//! makes them on a stock node); the host's node is never changed, and nothing
//! that the host itself uses is ever handed out. CSI 1.x, `NodePublishVolume`
//! and `NodeUnpublishVolume`, is the model.
//!
//! Symbolic links are resolved once, at the start, because `/dev/disk/by-id`
//! consists of them; from then on only the resolved path counts, so a link
//! that is turned elsewhere while the VM runs changes nothing.
//!
//! # Who keeps a loop device alive
//! Loop devices are made with autoclear: the kernel frees one when its last
//! opener closes it, so a crash of any kind leaves none behind. [`Attached`]
//! holds it open, the container's qemu does too once it runs. A command that
//! ends while the VM goes on calls [`Attached::release`] **after** the VM is
//! known to run, and writes the [`VolumeRecord`] down; from then on qemu alone
//! keeps the device, and [`VolumeRecord::detach`] ends what is left.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use coracle_api::names::DISK_GID;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use nix::sys::stat::{Mode, SFlag, mknod};
use serde::{Deserialize, Serialize};

mod arg;
mod error;
mod host;
mod image;
mod loop_device;
pub(crate) mod mountinfo;
pub(crate) mod quantity;
mod set;

pub(crate) use arg::is_object_name;
pub use arg::{VolumeArg, VolumeArgError};
pub use error::VolumeError;
pub use loop_device::LoopRecord;
pub use set::{attach_all, uses};

use loop_device::LoopDevice;

/// What the VM does with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing else may have it open.
    Exclusive,
    /// Other VMs may write to it at the same time (`shareable: true`).
    Shared,
    /// It is only read.
    ReadOnly,
}

/// How a claim is attached.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// Where the VM's device nodes are made; a directory of this VM alone.
    pub dir: PathBuf,
    /// What the VM does with the volume.
    pub access: Access,
}

/// A volume as the container gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AttachedVolume {
    /// A raw block volume: the VM's own device node on the host.
    Block(PathBuf),
    /// A volume with a file system: the directory to mount.
    Directory(PathBuf),
}

impl AttachedVolume {
    /// The node's or the directory's path on the host.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Block(path) | Self::Directory(path) => path,
        }
    }
}

/// An attached claim. Dropping it detaches, and logs what goes wrong then;
/// [`Attached::detach`] returns it.
#[derive(Debug)]
pub struct Attached {
    claim: PersistentVolumeClaim,
    volume: AttachedVolume,
    loop_device: Option<LoopDevice>,
    /// Whether dropping detaches.
    owned: bool,
}

/// What [`VolumeRecord::detach`] needs to know when the process that attached
/// the claim is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRecord {
    /// Name of the claim.
    pub claim: String,
    /// What the container got.
    pub volume: AttachedVolume,
    /// The loop device under it, when an image file plays the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loop_device: Option<LoopRecord>,
}

/// Attaches one claim. See [`attach_all`] for the checks that need all of them.
pub fn attach(
    arg: &VolumeArg,
    claim: &PersistentVolumeClaim,
    options: &AttachOptions,
) -> Result<Attached, VolumeError> {
    let path = resolve(arg)?;
    let mode = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_mode.as_deref());
    match mode.unwrap_or("Filesystem") {
        "Block" => attach_block(arg, &path, claim, options),
        "Filesystem" => attach_directory(arg, &path, claim, options),
        mode => Err(VolumeError::UnknownMode {
            claim: arg.claim.clone(),
            mode: mode.into(),
        }),
    }
}

fn resolve(arg: &VolumeArg) -> Result<PathBuf, VolumeError> {
    fs::canonicalize(&arg.path).map_err(|source| {
        let (claim, path) = (arg.claim.clone(), arg.path.clone());
        match source.kind() {
            io::ErrorKind::NotFound => VolumeError::PathMissing { claim, path },
            _ => VolumeError::Inaccessible {
                claim,
                path,
                source,
            },
        }
    })
}

fn attach_block(
    arg: &VolumeArg,
    path: &Path,
    claim: &PersistentVolumeClaim,
    options: &AttachOptions,
) -> Result<Attached, VolumeError> {
    let host = host::examine(&arg.claim, path)?;
    let (device, loop_device) = match host {
        host::Kind::BlockDevice(device) => {
            host::check_unused(&arg.claim, path, device)?;
            host::check_openable(&arg.claim, path, options.access)?;
            (device, None)
        }
        host::Kind::File(file) => {
            image::check(&arg.claim, path)?;
            host::check_not_swap(&arg.claim, path)?;
            let made = LoopDevice::attach(&arg.claim, path, file, options.access)?;
            (made.device(), Some(made))
        }
    };
    let size = host::size(
        &arg.claim,
        loop_device.as_ref().map_or(path, LoopDevice::path),
    )?;
    check_size(arg, path, claim, size)?;
    let node = options.dir.join(&arg.claim);
    let attached = Attached {
        claim: bound(arg, claim, Some(size)),
        volume: AttachedVolume::Block(node.clone()),
        loop_device,
        owned: true,
    };
    make_node(&node, device).map_err(|source| VolumeError::Node { path: node, source })?;
    Ok(attached)
}

fn attach_directory(
    arg: &VolumeArg,
    path: &Path,
    claim: &PersistentVolumeClaim,
    options: &AttachOptions,
) -> Result<Attached, VolumeError> {
    host::check_directory(&arg.claim, path, options.access)?;
    image::check_in_directory(&arg.claim, path)?;
    Ok(Attached {
        claim: bound(arg, claim, None),
        volume: AttachedVolume::Directory(path.into()),
        loop_device: None,
        owned: true,
    })
}

/// A claim is never bound to less than it requests, neither in a cluster.
fn check_size(
    arg: &VolumeArg,
    path: &Path,
    claim: &PersistentVolumeClaim,
    size: u64,
) -> Result<(), VolumeError> {
    let Some(request) = request(claim) else {
        return Ok(());
    };
    let (claim, text) = (arg.claim.clone(), request.0.clone());
    match quantity::bytes(&text) {
        None => Err(VolumeError::Request {
            claim,
            request: text,
        }),
        Some(request_bytes) if size < request_bytes => Err(VolumeError::TooSmall {
            claim,
            path: path.into(),
            size,
            request: text,
            request_bytes,
        }),
        Some(_) => Ok(()),
    }
}

fn request(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim
        .spec
        .as_ref()?
        .resources
        .as_ref()?
        .requests
        .as_ref()?
        .get("storage")
}

/// The claim as the API server shows it once it is bound.
fn bound(
    arg: &VolumeArg,
    claim: &PersistentVolumeClaim,
    size: Option<u64>,
) -> PersistentVolumeClaim {
    let mut claim = claim.clone();
    let capacity = size
        .map(|bytes| Quantity(bytes.to_string()))
        .or_else(|| request(&claim).cloned());
    let spec = claim.spec.get_or_insert_default();
    spec.volume_mode.get_or_insert_with(|| "Filesystem".into());
    spec.volume_name
        .get_or_insert_with(|| format!("local-{}", arg.claim));
    claim.status = Some(PersistentVolumeClaimStatus {
        phase: Some("Bound".into()),
        access_modes: spec.access_modes.clone(),
        capacity: capacity.map(|capacity| BTreeMap::from([("storage".into(), capacity)])),
        ..PersistentVolumeClaimStatus::default()
    });
    claim
}

/// A node of our own for the device, with the owner and mode that udev gives
/// block devices. One left over from a crash is replaced: its numbers may be
/// another device's by now.
fn make_node(node: &Path, device: u64) -> io::Result<()> {
    remove_node(node)?;
    if let Some(dir) = node.parent() {
        fs::create_dir_all(dir)?;
    }
    let gid = u32::try_from(DISK_GID).map_err(io::Error::other)?;
    // Nobody but root may open it before it has its owner and mode.
    mknod(node, SFlag::S_IFBLK, Mode::empty(), device)?;
    std::os::unix::fs::chown(node, Some(0), Some(gid))?;
    fs::set_permissions(node, std::os::unix::fs::PermissionsExt::from_mode(0o660))
}

fn remove_node(node: &Path) -> io::Result<()> {
    match fs::remove_file(node) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Attached {
    /// The claim with its status filled in: bound, with the capacity it has.
    #[must_use]
    pub fn claim(&self) -> &PersistentVolumeClaim {
        &self.claim
    }

    /// What the container gets.
    #[must_use]
    pub fn volume(&self) -> &AttachedVolume {
        &self.volume
    }

    /// What to write down before the container is made, so that a later
    /// command can detach the claim.
    #[must_use]
    pub fn record(&self) -> VolumeRecord {
        VolumeRecord {
            claim: self.claim.metadata.name.clone().unwrap_or_default(),
            volume: self.volume.clone(),
            loop_device: self.loop_device.as_ref().map(LoopDevice::record),
        }
    }

    /// Leaves the claim attached for as long as the VM has it open, and gives
    /// it up. Call it only once the VM runs: a loop device that nobody has
    /// open is freed at once.
    #[must_use = "without the record nothing can detach the claim"]
    pub fn release(mut self) -> VolumeRecord {
        self.owned = false;
        self.record()
    }

    /// Detaches: removes the node and frees the loop device.
    pub fn detach(mut self) -> Result<(), VolumeError> {
        self.owned = false;
        let record = self.record();
        // Close first: the device is freed when its last opener is gone.
        self.loop_device = None;
        record.detach()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        let record = self.record();
        self.loop_device = None;
        if let Err(error) = record.detach() {
            let claim = &record.claim;
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%claim, error, "volume not detached cleanly");
        }
    }
}

impl VolumeRecord {
    /// Detaches what another process attached. Doing it twice is harmless,
    /// and a loop device that has meanwhile been given to another file is
    /// left alone.
    pub fn detach(&self) -> Result<(), VolumeError> {
        if let AttachedVolume::Block(node) = &self.volume {
            remove_node(node).map_err(|source| VolumeError::Node {
                path: node.clone(),
                source,
            })?;
        }
        self.loop_device.as_ref().map_or(Ok(()), LoopRecord::detach)
    }
}

#[cfg(test)]
mod tests;
