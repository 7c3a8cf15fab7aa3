//! What is written down about a VM before anything is made for it, so that
//! whatever happens to the command, the next one can find and remove it.
//!
//! One directory per VM (`<state-dir>/pods/<namespace>_<name>`) with
//! `record.json` and a lock. Who holds the lock owns the VM; a record without
//! an owner is a detached VM, or what a killed command left. Directories are
//! made and removed only under the state directory's lock.

mod error;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_block::claim::Holder;
use k8s_openapi::api::core::v1::Pod;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::paths::Paths;
use crate::pod_volumes::Places;
use crate::process::ProcessId;
use crate::report::Report;
use crate::volume::VolumeRecord;

pub use error::RecordError;

const RECORD: &str = "record.json";
const LOCK: &str = "lock";
/// How often a lock is tried that another command holds for a moment.
const POLL: Duration = Duration::from_millis(20);

/// A VM, as people name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VmId {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for VmId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A claim that a VM uses, and what plays it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimUse {
    /// The claim.
    pub claim: String,
    /// Whether it is only read.
    pub read_only: bool,
    /// Whether other VMs may use it too.
    pub shareable: bool,
    /// The path behind it, without symbolic links.
    pub path: PathBuf,
    /// The device's number, when it is a block device.
    pub device: Option<u64>,
}

/// Devices that were handed out to a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The resource.
    pub resource: String,
    /// The devices' ids.
    pub ids: Vec<String>,
}

/// Everything there is of one VM. Fields are filled in before the thing they
/// name is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The VM.
    pub vm: VmId,
    /// The uid of its pod.
    pub uid: String,
    /// Whether it goes on without a command that owns it.
    pub detached: bool,
    /// The socket of a containerd that is not ours.
    pub containerd: Option<PathBuf>,
    /// The claims it uses.
    pub claims: Vec<ClaimUse>,
    /// Where its small volumes and those in memory are.
    pub volume_dir: PathBuf,
    /// Where its ephemeral disks are.
    pub disk_dir: PathBuf,
    /// Its attached claims.
    pub volumes: Vec<VolumeRecord>,
    /// The device plugin that was started for it.
    pub plugin: Option<ProcessId>,
    /// The devices it holds.
    pub devices: Vec<Held>,
    /// Whether a pod sandbox may be there.
    pub sandboxed: bool,
    /// Its container.
    pub container: Option<String>,
    /// How long the guest may take to stop, in seconds.
    pub grace_seconds: u64,
    /// The pod, with its annotations as they are shown to the shim.
    pub pod: Option<Pod>,
    /// What is known for people.
    pub report: Report,
}

impl Record {
    /// Where its volumes are.
    #[must_use]
    pub fn places(&self) -> Places {
        Places {
            volumes: self.volume_dir.clone(),
            disk: self.disk_dir.clone(),
        }
    }
}

/// The state directory's lock: while it is held no other command makes or
/// removes a VM, or starts or stops the private containerd.
#[derive(Debug)]
pub struct StateLock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

/// Takes the state directory's lock, and makes the directory if need be.
///
/// # Cancellation
/// Leaves nothing.
pub async fn lock(paths: &Paths) -> Result<StateLock, RecordError> {
    use std::os::unix::fs::DirBuilderExt;
    let dir = paths.state();
    // What is below holds device nodes that anybody could use.
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(dir).map_err(file("made", dir))?;
    loop {
        if let Some(lock) = try_lock(&paths.lock())? {
            return Ok(StateLock(lock));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_path_buf();
    move |source| RecordError::File {
        action,
        path,
        source,
    }
}

/// A lock, unless another process holds it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<Flock<File>>, RecordError> {
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path);
    match Flock::lock(
        opened.map_err(file("opened", path))?,
        FlockArg::LockExclusiveNonblock,
    ) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(None),
        Err((_, errno)) => Err(file("locked", path)(errno.into())),
    }
}

/// A VM's directory, owned by this process.
#[derive(Debug)]
pub struct Slot {
    dir: PathBuf,
    record: Record,
    _lock: Flock<File>,
}

impl Slot {
    /// Makes the directory of a new VM. The caller holds the state lock and
    /// has removed what was left of an earlier one.
    pub fn create(paths: &Paths, record: Record, _state: &StateLock) -> Result<Self, RecordError> {
        let dir = paths.pod(&record.vm.namespace, &record.vm.name);
        std::fs::create_dir_all(&dir).map_err(file("made", &dir))?;
        let running = || RecordError::Running {
            vm: record.vm.to_string(),
            how: "in a terminal",
        };
        let lock = try_lock(&dir.join(LOCK))?.ok_or_else(running)?;
        let mut slot = Self {
            dir,
            record,
            _lock: lock,
        };
        slot.update(|_| {})?;
        Ok(slot)
    }

    /// The VM's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What is written down.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Changes the record, on disk too.
    pub fn update(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), RecordError> {
        change(&mut self.record);
        write(&self.dir, &self.record)
    }
}

fn write(dir: &Path, record: &Record) -> Result<(), RecordError> {
    let path = dir.join(RECORD);
    let new = dir.join("record.json.new");
    let bytes = serde_json::to_vec_pretty(record).map_err(|source| RecordError::Format {
        path: path.clone(),
        source,
    })?;
    std::fs::write(&new, bytes).map_err(file("written", &new))?;
    std::fs::rename(&new, &path).map_err(file("written", &path))
}

/// A VM that is there, and whose it is.
#[derive(Debug)]
pub struct Found {
    /// Its directory.
    pub dir: PathBuf,
    /// What is written down.
    pub record: Record,
    /// Whose it is.
    pub owner: Owner,
}

/// Whose a VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A running command's.
    Command,
    /// Nobody's: it was started with `--detach`.
    Detached,
    /// Nobody's: its command was killed.
    Lost,
}

impl Found {
    /// Becomes the owner; `None` when a command owns it.
    pub fn take(self) -> Result<Option<Slot>, RecordError> {
        let lock = try_lock(&self.dir.join(LOCK))?;
        Ok(lock.map(|lock| Slot {
            dir: self.dir,
            record: self.record,
            _lock: lock,
        }))
    }

    /// Changes the record of a VM that keeps its owner.
    pub fn rewrite(&self) -> Result<(), RecordError> {
        write(&self.dir, &self.record)
    }
}

/// All VMs of the state directory, by name. A directory without a record is
/// what is left of one that was only begun, and is removed.
pub fn all(paths: &Paths) -> Result<Vec<Found>, RecordError> {
    let pods = paths.pods();
    let entries = match std::fs::read_dir(&pods) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file("listed", &pods)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let dir = entry.map_err(file("listed", &pods))?.path();
        found.extend(open(&dir)?);
    }
    found.sort_by(|one, two| one.record.vm.cmp(&two.record.vm));
    Ok(found)
}

fn open(dir: &Path) -> Result<Option<Found>, RecordError> {
    let path = dir.join(RECORD);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file("read", &path)(error)),
    };
    let record: Record =
        serde_json::from_slice(&bytes).map_err(|source| RecordError::Format { path, source })?;
    // Trying the lock is the only way to ask who holds it; it is free again
    // at once.
    let owner = match try_lock(&dir.join(LOCK))? {
        None => Owner::Command,
        Some(_) if record.detached => Owner::Detached,
        Some(_) => Owner::Lost,
    };
    Ok(Some(Found {
        dir: dir.to_path_buf(),
        record,
        owner,
    }))
}

/// The VM that a person means by `name` or `namespace/name`.
pub fn find(paths: &Paths, text: &str) -> Result<Found, RecordError> {
    let all = all(paths)?;
    let matches = |found: &Found| match text.split_once('/') {
        Some((namespace, name)) => {
            found.record.vm.namespace == namespace && found.record.vm.name == name
        }
        None => found.record.vm.name == text,
    };
    let names = |found: &[Found]| found.iter().map(|f| f.record.vm.to_string()).collect();
    let known_vms = names(&all);
    let mut matching: Vec<Found> = all.into_iter().filter(matches).collect();
    match (matching.pop(), matching.is_empty()) {
        (None, _) => Err(RecordError::Unknown {
            vm: text.to_owned(),
            known_vms,
        }),
        (Some(found), true) => Ok(found),
        (Some(found), false) => {
            matching.push(found);
            Err(RecordError::Ambiguous {
                name: text.to_owned(),
                vms: names(&matching),
            })
        }
    }
}

/// Who uses one of the claims, or what plays it, already: as the controller
/// sees the pods of a cluster.
#[must_use]
pub fn holders(others: &[Found], namespace: &str, claim: &ClaimUse) -> Vec<Holder> {
    let same = |use_: &ClaimUse, vm: &VmId| {
        (use_.claim == claim.claim && vm.namespace == namespace)
            || use_.path == claim.path
            || (use_.device.is_some() && use_.device == claim.device)
    };
    let mut holders = Vec::new();
    for other in others {
        for use_ in other
            .record
            .claims
            .iter()
            .filter(|use_| same(use_, &other.record.vm))
        {
            holders.push(Holder {
                pod: other.record.report.pod.clone(),
                vm: Some(other.record.vm.to_string()),
                read_only: use_.read_only,
                shareable: use_.shareable,
            });
        }
    }
    holders
}
