//! All claims of one VM at once: what each `--volume` is for, that none is
//! missing, and that no device plays two claims.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use coracle_api::vm::VirtualMachine;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::host::{self, FileId};
use super::{Access, AttachOptions, Attached, VolumeArg, VolumeError, attach};

/// The claims that a VM uses, and what it does with each.
#[must_use]
pub fn uses(vm: &VirtualMachine) -> BTreeMap<String, Access> {
    let mut uses = BTreeMap::new();
    if let Some(kernel) = vm
        .spec
        .firmware
        .as_ref()
        .and_then(|firmware| firmware.kernel.as_ref())
    {
        uses.insert(kernel.claim.name.clone(), Access::ReadOnly);
    }
    for disk in &vm.spec.disks {
        let Some(claim) = &disk.claim else { continue };
        let access = match (disk.read_only, disk.shareable) {
            (true, _) => Access::ReadOnly,
            (false, true) => Access::Shared,
            (false, false) => Access::Exclusive,
        };
        // A claim that is both a disk and the kernel's is written to.
        uses.insert(claim.name.clone(), access);
    }
    uses
}

/// Attaches all claims of a VM, each with what `--volume` names for it.
///
/// # Errors
/// Nothing stays attached when one of them fails.
pub fn attach_all(
    args: &[VolumeArg],
    vm: &VirtualMachine,
    claims: &BTreeMap<String, PersistentVolumeClaim>,
    dir: &Path,
) -> Result<BTreeMap<String, Attached>, VolumeError> {
    let uses = uses(vm);
    let args = by_claim(args, &uses, claims)?;
    check_complete(&args, &uses, claims)?;
    check_distinct(&args)?;
    let mut attached = BTreeMap::new();
    for (name, access) in uses {
        let (Some(arg), Some(claim)) = (args.get(name.as_str()), claims.get(&name)) else {
            continue;
        };
        let options = AttachOptions {
            dir: dir.into(),
            access,
        };
        attached.insert(name, attach(arg, claim, &options)?);
    }
    Ok(attached)
}

fn by_claim<'a>(
    args: &'a [VolumeArg],
    uses: &BTreeMap<String, Access>,
    claims: &BTreeMap<String, PersistentVolumeClaim>,
) -> Result<BTreeMap<&'a str, &'a VolumeArg>, VolumeError> {
    let mut by_claim = BTreeMap::new();
    for arg in args {
        let claim = arg.claim.clone();
        if !claims.contains_key(&claim) {
            return Err(VolumeError::UnknownClaim {
                claim,
                known: list(claims),
            });
        }
        if !uses.contains_key(&claim) {
            return Err(VolumeError::UnusedClaim {
                claim,
                used: list(uses),
            });
        }
        if by_claim.insert(arg.claim.as_str(), arg).is_some() {
            return Err(VolumeError::Repeated { claim });
        }
    }
    Ok(by_claim)
}

fn list<T>(names: &BTreeMap<String, T>) -> String {
    match names.keys().map(String::as_str).collect::<Vec<_>>() {
        names if names.is_empty() => "none".into(),
        names => names.join(", "),
    }
}

fn check_complete(
    args: &BTreeMap<&str, &VolumeArg>,
    uses: &BTreeMap<String, Access>,
    claims: &BTreeMap<String, PersistentVolumeClaim>,
) -> Result<(), VolumeError> {
    for name in uses.keys() {
        let claim = name.clone();
        let Some(manifest) = claims.get(name) else {
            return Err(VolumeError::ClaimMissing { claim });
        };
        if !args.contains_key(name.as_str()) {
            let spec = manifest.spec.as_ref();
            let block = spec.and_then(|spec| spec.volume_mode.as_deref()) == Some("Block");
            let hint = if block {
                "a block device or an image file"
            } else {
                "a directory"
            };
            return Err(VolumeError::NotGiven { claim, hint });
        }
    }
    Ok(())
}

/// What a path stands for, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Identity {
    Device(u64),
    File(FileId),
}

impl Identity {
    fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::Device(one), Self::Device(two)) => {
                // A partition and the disk it is on share bytes.
                let [first, second] = [host::numbers(one), host::numbers(two)];
                first == second || host::whole_disk(one) == second || host::whole_disk(two) == first
            }
            (one, two) => one == two,
        }
    }
}

fn check_distinct(args: &BTreeMap<&str, &VolumeArg>) -> Result<(), VolumeError> {
    let mut seen: Vec<(&VolumeArg, Identity)> = Vec::new();
    for arg in args.values() {
        // What cannot be looked at is refused when it is attached.
        let Ok(metadata) = fs::metadata(&arg.path) else {
            continue;
        };
        let identity = if metadata.file_type().is_block_device() {
            Identity::Device(metadata.rdev())
        } else {
            Identity::File(FileId::of(&metadata))
        };
        if let Some((first, _)) = seen.iter().find(|(_, other)| other.overlaps(identity)) {
            return Err(VolumeError::SameDevice {
                first: first.claim.clone(),
                second: arg.claim.clone(),
                path: arg.path.clone(),
            });
        }
        seen.push((arg, identity));
    }
    Ok(())
}
