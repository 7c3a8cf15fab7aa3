//! Removes a VM: everything its record names, in the reverse order of making.
//! The same code runs after an orderly end, after an error, and for what a
//! killed command left; each step is harmless when its thing is gone.
//!
//! Never removes what something may still use: while the sandbox cannot be
//! removed, the volumes stay, and the record with them.

use std::io;
use std::path::{Path, PathBuf};

use crate::containerd::{self, Containerd, Settings};
use crate::cri::CriError;
use crate::paths::Paths;
use crate::record::{self, Found, Owner, RecordError, Slot, StateLock};
use crate::{cni, node, pod_volumes, process};

/// Something could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    /// The runtime is not there to remove the pod.
    #[error("the pod of VM {vm} cannot be removed, its container runtime is not there")]
    Runtime {
        /// The VM.
        vm: String,
        /// Why.
        source: Box<containerd::ContainerdError>,
    },
    /// The runtime refused.
    #[error("the pod of VM {vm} cannot be removed")]
    Sandbox {
        /// The VM.
        vm: String,
        /// What it said.
        source: CriError,
    },
    /// The pod's volumes could not be removed.
    #[error("the volumes of VM {vm} cannot be removed")]
    Volumes {
        /// The VM.
        vm: String,
        /// Why.
        source: pod_volumes::PodVolumeError,
    },
    /// A claim could not be detached.
    #[error("claim {claim} of VM {vm} cannot be detached")]
    Detach {
        /// The VM.
        vm: String,
        /// The claim.
        claim: String,
        /// Why.
        source: crate::volume::VolumeError,
    },
    /// Files could not be removed.
    #[error("{} cannot be removed", path.display())]
    Files {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The records cannot be read.
    #[error("the records of the VMs cannot be read")]
    Records {
        /// Why.
        #[from]
        source: RecordError,
    },
}

/// What removing needs to know.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The state directory.
    pub paths: &'a Paths,
    /// For a private containerd that must be started once more.
    pub settings: &'a Settings,
}

/// Removes a VM and its directory. The caller holds the state lock.
pub async fn remove(
    context: &Context<'_>,
    slot: Slot,
    state: &StateLock,
) -> Result<(), TeardownError> {
    let record = slot.record();
    let vm = record.vm.to_string();
    if let Some(plugin) = record.plugin {
        plugin.end(process::TERM_GRACE).await;
    }
    if record.sandboxed {
        let containerd = runtime(context, record.containerd.as_deref(), state)
            .await
            .map_err(|source| TeardownError::Runtime {
                vm: vm.clone(),
                source: Box::new(source),
            })?;
        remove_sandboxes(&containerd, &record.uid, record.report.pod_ip.as_deref())
            .await
            .map_err(|source| TeardownError::Sandbox {
                vm: vm.clone(),
                source,
            })?;
    }
    remove_cgroup(&node::cgroup_parent(&record.uid));
    remove_cgroup(node::CGROUP);
    pod_volumes::teardown(&record.places()).map_err(|source| TeardownError::Volumes {
        vm: vm.clone(),
        source,
    })?;
    for volume in &record.volumes {
        volume.detach().map_err(|source| TeardownError::Detach {
            vm: vm.clone(),
            claim: volume.claim.clone(),
            source,
        })?;
    }
    remove_dir(slot.dir())
}

async fn runtime(
    context: &Context<'_>,
    external: Option<&Path>,
    _state: &StateLock,
) -> Result<Containerd, containerd::ContainerdError> {
    match external {
        Some(socket) => containerd::existing(socket).await,
        None => containerd::ensure(context.paths, context.settings).await,
    }
}

async fn remove_sandboxes(
    containerd: &Containerd,
    uid: &str,
    ip: Option<&str>,
) -> Result<(), CriError> {
    for (id, _) in containerd.cri.sandboxes(Some(uid)).await? {
        containerd.cri.remove_sandbox(&id).await?;
        // host-local forgets the lease when the plugin is told to; when the
        // plugin could not be told, nobody else will.
        let lease = ip.map(cni::lease).filter(|lease| {
            std::fs::read_to_string(lease).is_ok_and(|holder| holder.starts_with(&id))
        });
        if let Some(lease) = lease {
            tracing::warn!(lease = %lease.display(), "removing an address lease that the plugin left");
            let _ = std::fs::remove_file(lease);
        }
    }
    Ok(())
}

/// Removes a cgroup that is empty, under every hierarchy that has it. The
/// runtime removes the container's own and leaves its parents.
fn remove_cgroup(cgroup: &str) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for mount in cgroup_mounts(&mounts) {
        // Another VM's pods may be in it, or it is not there: both are fine.
        let _ = std::fs::remove_dir(format!("{mount}{cgroup}"));
    }
}

fn cgroup_mounts(mountinfo: &str) -> Vec<&str> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let kind = kind.split_ascii_whitespace().next()?;
            matches!(kind, "cgroup" | "cgroup2").then(|| mount.split_ascii_whitespace().nth(4))?
        })
        .collect()
}

fn remove_dir(dir: &Path) -> Result<(), TeardownError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(TeardownError::Files {
            path: dir.to_path_buf(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Removes what killed commands left, and says for each VM how that went.
pub async fn remove_lost(
    context: &Context<'_>,
    state: &StateLock,
) -> Result<Vec<(String, Result<(), TeardownError>)>, TeardownError> {
    let lost = |found: &Found| found.owner == Owner::Lost;
    let mut removed = Vec::new();
    for found in record::all(context.paths)?.into_iter().filter(lost) {
        let vm = found.record.vm.to_string();
        if let Some(slot) = found.take()? {
            removed.push((vm, Box::pin(remove(context, slot, state)).await));
        }
    }
    sweep(context).await?;
    Ok(removed)
}

/// Removes pod sandboxes that no record knows of, as a kubelet does: they are
/// left when the state directory was lost, by a reboot for one.
async fn sweep(context: &Context<'_>) -> Result<(), TeardownError> {
    // Whatever had a sandbox has had containerd started by its removal.
    if !containerd::is_running(context.paths) {
        return Ok(());
    }
    let known: Vec<String> = record::all(context.paths)?
        .into_iter()
        .map(|found| found.record.uid)
        .collect();
    let cri = crate::cri::Cri::connect(&containerd::socket(context.paths));
    let failed = |source| TeardownError::Sandbox {
        vm: "(unknown)".to_owned(),
        source,
    };
    for (id, uid) in cri.sandboxes(None).await.map_err(failed)? {
        if !known.contains(&uid) {
            tracing::warn!(sandbox = %id, "removing a pod sandbox that belongs to no VM");
            cri.remove_sandbox(&id).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// Ends the private containerd when no VM is left that needs it. The caller
/// holds the state lock.
pub async fn stop_if_unused(paths: &Paths, _state: &StateLock) -> Result<(), TeardownError> {
    let needed = record::all(paths)?
        .iter()
        .any(|found| found.record.containerd.is_none());
    if !needed {
        containerd::stop(paths).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_mounts_are_found_in_both_versions() {
        let mountinfo = "25 1 0:5 / /dev rw - devtmpfs devtmpfs rw\n\
             30 1 0:20 / /sys/fs/cgroup/cpu rw shared:3 - cgroup cgroup rw,cpu\n\
             31 1 0:21 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             nonsense";
        assert_eq!(
            cgroup_mounts(mountinfo),
            ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"]
        );
    }
}
