//! A pod's volumes on one machine: the part of the kubelet's volume manager
//! that VM pods need, with the kubelet's own file layout, owners and modes.
//!
//! Kinds: `downwardAPI`, `emptyDir`, `secret`, `configMap` and
//! `persistentVolumeClaim`; anything else is refused, never skipped. Secrets
//! and the downward API live in memory (tmpfs), as with the kubelet. A claim's
//! directory is handed out as it is: the kubelet applies `fsGroup` to a
//! persistent volume only where its CSI driver asks for it, and a directory of
//! the user's keeps its owners. For the VM to write there, it must be writable
//! for uid or gid 107.
//!
//! Everything made here is below the two directories of [`Places`], so that
//! [`teardown`] needs nothing else: it works after a crash, and twice.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    ConfigMap, EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, Pod, Secret, Volume,
};

use crate::volume::{Attached, AttachedVolume};

mod atomic;
mod error;
mod ownership;
mod payload;
mod scratch;

pub use error::PodVolumeError;

use ownership::Writable;
use payload::Payload;

/// Where a pod's volumes are made; directories of this pod alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Everything that is small or in memory.
    pub volumes: PathBuf,
    /// `emptyDir`s without a medium, which hold ephemeral disks: a directory
    /// on a disk, where the other one may be on a tmpfs.
    pub disk: PathBuf,
}

/// What the pod's volumes are filled with.
#[derive(Clone, Debug)]
pub struct Sources<'a> {
    /// Secrets by name.
    pub secrets: &'a BTreeMap<String, Secret>,
    /// Config maps by name.
    pub config_maps: &'a BTreeMap<String, ConfigMap>,
    /// Attached claims by name.
    pub claims: BTreeMap<String, AttachedVolume>,
}

impl<'a> Sources<'a> {
    /// From the manifests and the attached claims.
    #[must_use]
    pub fn new(
        secrets: &'a BTreeMap<String, Secret>,
        config_maps: &'a BTreeMap<String, ConfigMap>,
        attached: &BTreeMap<String, Attached>,
    ) -> Self {
        let claims = attached
            .iter()
            .map(|(name, claim)| (name.clone(), claim.volume().clone()));
        Self {
            secrets,
            config_maps,
            claims: claims.collect(),
        }
    }
}

/// A pod's volumes. Dropping it tears them down, unless [`PodVolumes::release`]
/// was called.
#[derive(Debug)]
pub struct PodVolumes {
    places: Places,
    mounts: BTreeMap<String, PathBuf>,
    devices: BTreeMap<String, PathBuf>,
    owned: bool,
}

impl PodVolumes {
    /// Volume name → host path, for the container's `volumeMounts`.
    #[must_use]
    pub fn mounts(&self) -> &BTreeMap<String, PathBuf> {
        &self.mounts
    }

    /// Volume name → device node on the host, for its `volumeDevices`.
    #[must_use]
    pub fn devices(&self) -> &BTreeMap<String, PathBuf> {
        &self.devices
    }

    /// Leaves the volumes for [`teardown`] by a later command.
    pub fn release(mut self) {
        self.owned = false;
    }

    /// Unmounts and removes everything.
    pub fn teardown(mut self) -> Result<(), PodVolumeError> {
        self.owned = false;
        teardown(&self.places)
    }
}

impl Drop for PodVolumes {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        if let Err(error) = teardown(&self.places) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "pod volumes not removed cleanly");
        }
    }
}

/// Makes all volumes of a pod. What a crash left at the same places is removed
/// first.
///
/// # Errors
/// Nothing stays when one of them fails.
pub fn realize(
    pod: &Pod,
    places: &Places,
    sources: &Sources<'_>,
) -> Result<PodVolumes, PodVolumeError> {
    teardown(places)?;
    let mut made = PodVolumes {
        places: places.clone(),
        mounts: BTreeMap::new(),
        devices: BTreeMap::new(),
        owned: true,
    };
    for dir in [&places.volumes, &places.disk] {
        make_dir(dir)?;
    }
    for volume in volumes(pod) {
        match make(pod, places, sources, volume)? {
            AttachedVolume::Directory(path) => made.mounts.insert(volume.name.clone(), path),
            AttachedVolume::Block(path) => made.devices.insert(volume.name.clone(), path),
        };
    }
    Ok(made)
}

/// Shows changed annotations and labels to the pod: rewrites its `downwardAPI`
/// volumes, each at once and only if it changed.
pub fn update(pod: &Pod, places: &Places) -> Result<(), PodVolumeError> {
    for volume in volumes(pod) {
        if let Some(source) = &volume.downward_api {
            let payload = payload::downward_api(pod, &volume.name, source)?;
            write(pod, &places.volumes.join(&volume.name), &payload)?;
        }
    }
    Ok(())
}

/// Unmounts and removes everything below the two directories, and them.
pub fn teardown(places: &Places) -> Result<(), PodVolumeError> {
    scratch::remove(&places.volumes)?;
    scratch::remove(&places.disk)
}

fn volumes(pod: &Pod) -> &[Volume] {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default()
}

fn make(
    pod: &Pod,
    places: &Places,
    sources: &Sources<'_>,
    volume: &Volume,
) -> Result<AttachedVolume, PodVolumeError> {
    let name = &volume.name;
    let dir = places.volumes.join(name);
    if let Some(source) = &volume.downward_api {
        make_scratch(pod, &dir, scratch::Medium::Memory { limit: None })?;
        write(pod, &dir, &payload::downward_api(pod, name, source)?)?;
    } else if let Some(source) = &volume.secret {
        make_scratch(pod, &dir, scratch::Medium::Memory { limit: None })?;
        write(pod, &dir, &payload::secret(name, source, sources.secrets)?)?;
    } else if let Some(source) = &volume.config_map {
        make_scratch(pod, &dir, scratch::Medium::Disk)?;
        write(
            pod,
            &dir,
            &payload::config_map(name, source, sources.config_maps)?,
        )?;
    } else if let Some(source) = &volume.empty_dir {
        return empty_dir(pod, places, name, source).map(AttachedVolume::Directory);
    } else if let Some(source) = &volume.persistent_volume_claim {
        return claim(name, source, sources);
    } else {
        return Err(PodVolumeError::UnsupportedKind {
            volume: name.clone(),
        });
    }
    Ok(AttachedVolume::Directory(dir))
}

fn empty_dir(
    pod: &Pod,
    places: &Places,
    name: &str,
    source: &EmptyDirVolumeSource,
) -> Result<PathBuf, PodVolumeError> {
    let (parent, medium) = match source.medium.as_deref().unwrap_or_default() {
        "" => (&places.disk, scratch::Medium::Disk),
        "Memory" => {
            let limit = scratch::memory_limit(pod, name, source)?;
            (&places.volumes, scratch::Medium::Memory { limit })
        }
        medium => {
            let (volume, medium) = (name.into(), medium.into());
            return Err(PodVolumeError::UnsupportedMedium { volume, medium });
        }
    };
    let dir = parent.join(name);
    make_scratch(pod, &dir, medium)?;
    Ok(dir)
}

fn claim(
    name: &str,
    source: &PersistentVolumeClaimVolumeSource,
    sources: &Sources<'_>,
) -> Result<AttachedVolume, PodVolumeError> {
    sources
        .claims
        .get(&source.claim_name)
        .cloned()
        .ok_or_else(|| PodVolumeError::NotAttached {
            volume: name.into(),
            claim: source.claim_name.clone(),
        })
}

/// An empty volume as the kubelet makes it: open to all users of the pod, and
/// its files belong to the pod's group.
fn make_scratch(pod: &Pod, dir: &Path, medium: scratch::Medium) -> Result<(), PodVolumeError> {
    make_dir(dir)?;
    scratch::make(dir, medium)?;
    ownership::apply(dir, fs_group(pod)?, Writable::Yes).map_err(|source| PodVolumeError::Write {
        path: dir.into(),
        source,
    })
}

fn write(pod: &Pod, dir: &Path, payload: &Payload) -> Result<(), PodVolumeError> {
    let group = fs_group(pod)?;
    // The kubelet counts these volumes as read-only: the group may read.
    atomic::write(dir, payload, |written| {
        ownership::apply(written, group, Writable::No)
    })
    .map_err(|source| PodVolumeError::Write {
        path: dir.into(),
        source,
    })
}

fn fs_group(pod: &Pod) -> Result<Option<u32>, PodVolumeError> {
    let context = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref());
    let group = context.and_then(|context| context.fs_group);
    group
        .map(|group| u32::try_from(group).map_err(|_| PodVolumeError::FsGroup { group }))
        .transpose()
}

/// Directories of ours are closed to other users: below them are a pod's
/// secrets, in volumes that are themselves open to every user of the pod.
fn make_dir(dir: &Path) -> Result<(), PodVolumeError> {
    let failed = |source| PodVolumeError::Write {
        path: dir.into(),
        source,
    };
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(dir)
        .map_err(failed)
}

#[cfg(test)]
mod tests;
