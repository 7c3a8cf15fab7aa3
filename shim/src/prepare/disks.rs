//! Opens every disk as its VM needs it, seeds included.
//!
//! A cloud-init disk becomes a seed image in the runtime directory, and from
//! then on is a disk like any other.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use coracle_api::machine::{CloudInitData, Disk, DiskSource, Machine};
use coracle_api::report::TerminationReason;
use coracle_api::types::{CacheMode, DetectZeroes, DiscardMode, DiskBus, DiskType, IoMode};
use coracle_block::device::{self, DeviceError, DeviceFacts};
use coracle_block::qemu as block;
use coracle_block::uring::NoIoUring;
use tracing::{info, warn};

use super::Found;
use super::identity::Record;
use crate::refusal::Refusal;
use crate::seed::{self, Seed, SeedError};

/// A disk that is there and open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDisk {
    /// The disk as qemu gets it: the machine's own, or for cloud-init data the
    /// seed image in its place.
    pub disk: Disk,
    /// What was found at its path.
    pub facts: DeviceFacts,
}

/// Why a disk cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Its device or file.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The cloud-init data cannot be read.
    #[error(
        "its cloud-init data cannot be read from {}: the secret must have the key that the VM's \
         `cloudInit` names",
        path.display()
    )]
    Data {
        /// Path in the pod.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It wants `io_uring`, which cannot be had.
    #[error(
        "io: IoUring cannot be had: {source}; leave `io` out, and the best there is will be used"
    )]
    IoUring {
        /// What is in the way.
        source: NoIoUring,
    },
    /// The seed cannot be made.
    #[error("its cloud-init seed cannot be made")]
    Seed {
        /// Why not.
        source: SeedError,
    },
}

impl DiskError {
    /// The reason for the termination message.
    #[must_use]
    pub fn reason(&self) -> TerminationReason {
        match self {
            Self::Device(error) => error.reason(),
            Self::Data { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                TerminationReason::DiskNotFound
            }
            Self::Data { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                TerminationReason::DiskPermission
            }
            Self::Seed {
                source: SeedError::TooLarge { .. },
            } => TerminationReason::InvalidMachine,
            Self::Data { .. } | Self::Seed { .. } | Self::IoUring { .. } => {
                TerminationReason::HostFailed
            }
        }
    }
}

/// Opens every disk of `machine`, in its order.
pub(super) fn open_all(
    machine: &Machine,
    run_dir: &Path,
    io_uring: Result<(), NoIoUring>,
) -> Result<Found, Refusal> {
    let mut found = Found {
        devices: vec![],
        disks: Vec::new(),
        guards: Vec::new(),
        arch_capabilities: true,
        io_uring,
    };
    let mut record = Record::read(run_dir);
    for disk in &machine.disks {
        let refusal = |source| Refusal::Disk {
            disk: disk.name.clone(),
            source,
        };
        let host = found.host(machine);
        block::io_uring(disk, host).map_err(|source| refusal(DiskError::IoUring { source }))?;
        let (resolved, open) = open(machine, disk, run_dir).map_err(refusal)?;
        record
            .see(&disk.name, &open.facts)
            .map_err(|error| refusal(error.into()))?;
        info!(
            disk = %disk.name,
            path = %open.facts.path,
            size_bytes = open.facts.size_bytes,
            read_only = resolved.read_only,
            "disk opened"
        );
        found.disks.push(FoundDisk {
            disk: resolved,
            facts: open.facts.clone(),
        });
        found.guards.push(open);
    }
    if let Err(error) = record.write(run_dir) {
        warn!(%error, "the devices cannot be written down for a later start");
    }
    Ok(found)
}

fn open(
    machine: &Machine,
    disk: &Disk,
    run_dir: &Path,
) -> Result<(Disk, device::OpenDisk), DiskError> {
    let path = run_dir.join(format!("seed-{}.img", disk.name));
    if let DiskSource::CloudInit {
        user_data,
        network_data,
    } = &disk.source
    {
        write_seed(machine, user_data, network_data.as_ref(), &path)?;
    }
    let resolved = resolved(disk, &path);
    let open = device::open(&resolved)?;
    Ok((resolved, open))
}

/// The disk that qemu gets for `disk`, whose seed image, if it is one, is at
/// `seed`.
///
/// The runtime directory is memory: direct I/O, discards and queues of its own
/// have no meaning there. ATA knows no read-only disk, so a seed on SATA may
/// be written to; it is made anew on every start.
pub(crate) fn resolved(disk: &Disk, seed: &Path) -> Disk {
    if !matches!(disk.source, DiskSource::CloudInit { .. }) {
        return disk.clone();
    }
    Disk {
        source: DiskSource::File {
            path: seed.to_string_lossy().into_owned(),
            create_bytes: None,
        },
        cache: CacheMode::Writeback,
        io: IoMode::Threads,
        discard: DiscardMode::Ignore,
        detect_zeroes: DetectZeroes::Ignore,
        read_only: disk.bus != DiskBus::Sata || disk.disk_type == DiskType::Cdrom,
        shareable: false,
        iothread: false,
        queues: (disk.bus == DiskBus::Virtio).then_some(1),
        block_size: None,
        throttle: None,
        ..disk.clone()
    }
}

fn write_seed(
    machine: &Machine,
    user_data: &CloudInitData,
    network_data: Option<&CloudInitData>,
    path: &Path,
) -> Result<(), DiskError> {
    let user_data = read(user_data)?;
    let network_config = network_data.map(read).transpose()?;
    // cloud-init does its once-per-instance work again when the id changes:
    // a VM that was deleted and made again is another instance.
    let id = format!("{}-{}", machine.namespace, machine.name);
    let seed = Seed {
        instance_id: machine.uid.as_deref().unwrap_or(&id),
        local_hostname: &machine.name,
        user_data: &user_data,
        network_config: network_config.as_deref(),
    };
    seed.write(path)
        .map_err(|source| DiskError::Seed { source })
}

/// The data itself; of a file at most one byte more than a seed may hold, so
/// that a file without an end is no trouble.
fn read(data: &CloudInitData) -> Result<Vec<u8>, DiskError> {
    match data {
        CloudInitData::Inline(text) => Ok(text.clone().into_bytes()),
        CloudInitData::Path(path) => {
            let mut bytes = Vec::new();
            File::open(path)
                .and_then(|file| file.take(seed::DATA_MAX + 1).read_to_end(&mut bytes))
                .map_err(|source| DiskError::Data {
                    path: path.into(),
                    source,
                })?;
            Ok(bytes)
        }
    }
}
