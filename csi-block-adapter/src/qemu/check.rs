//! What goes together on a disk and what does not, before anything is opened;
//! and whether a device that was opened is a SCSI logical unit. Pure.

use coracle_api::{
    machine::{Disk, Throttle},
    types::{CacheMode, DetectZeroes, DiscardMode, DiskBus, DiskType, IoMode},
};

use super::{SATA_PORTS, SECTOR};
use crate::device::{DeviceFacts, Kind};

/// What a disk asks for and qemu does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// Native AIO through the page cache.
    #[error("io: Native needs cache: None, the disk has cache: {cache:?}")]
    NativeWithoutDirect {
        /// The cache mode.
        cache: CacheMode,
    },
    /// An I/O thread on a bus whose controller does the I/O.
    #[error("a disk with an I/O thread of its own needs bus: Virtio, this one has bus: {bus:?}")]
    IothreadOnBus {
        /// The bus.
        bus: DiskBus,
    },
    /// Queues on a bus that has none per disk.
    #[error("queues need bus: Virtio, the disk has bus: {bus:?}")]
    QueuesOnBus {
        /// The bus.
        bus: DiskBus,
    },
    /// A read-only SATA disk, which ATA does not know.
    #[error("a read-only disk cannot have bus: Sata: use type: Cdrom, or bus: Virtio, Scsi or Usb")]
    ReadOnlySata,
    /// A SATA disk with sectors other than 512 bytes.
    #[error("a disk with bus: Sata has logical sectors of 512 bytes, not {logical}")]
    SectorsOnSata {
        /// The size that was asked for.
        logical: u32,
    },
    /// Sector sizes on a USB disk: qemu's usb-storage takes and forgets them.
    #[error("blockSize cannot be set with bus: Usb: use bus: Virtio or Scsi")]
    BlockSizeOnUsb,
    /// A USB disk without a write cache: qemu's usb-storage takes and forgets
    /// that as well (seen with qemu 7.2).
    #[error("cache: Writethrough cannot be had with bus: Usb: use bus: Virtio, Scsi or Sata")]
    WritethroughOnUsb,
    /// More SATA disks than ports.
    #[error("disk {disk:?} is one more than the {SATA_PORTS} that bus: Sata has room for")]
    SataFull {
        /// Name of the first disk without a port.
        disk: String,
    },
    /// A CD-ROM drive on a bus that has none.
    #[error("type: Cdrom needs bus: Scsi or Sata, the disk has bus: {bus:?}")]
    CdromOnBus {
        /// The bus.
        bus: DiskBus,
    },
    /// A CD-ROM drive that writes.
    #[error("a disk with type: Cdrom is read-only, this one is not")]
    WritableCdrom,
    /// Sector sizes on a CD-ROM drive, which has 2048.
    #[error("blockSize cannot be set with type: Cdrom")]
    BlockSizeOnCdrom,
    /// A SCSI logical unit on another bus.
    #[error("type: Lun needs bus: Scsi, the disk has bus: {bus:?}")]
    LunOnBus {
        /// The bus.
        bus: DiskBus,
    },
    /// SCSI commands go past the page cache.
    #[error("type: Lun needs cache: None, the disk has cache: {cache:?}")]
    LunCache {
        /// The cache mode.
        cache: CacheMode,
    },
    /// What has no effect on commands that go to the device as they are.
    #[error("{setting} cannot be set with type: Lun")]
    OnLun {
        /// The setting.
        setting: &'static str,
    },
    /// Zeroes that would become discards, which are dropped.
    #[error("detectZeroes: Unmap needs discard: Unmap")]
    UnmapWithoutDiscard,
    /// A limit of the whole and of a part of it.
    #[error("throttle limits either the total or reads and writes by themselves, not both")]
    ThrottleTwice,
    /// Limits that limit nothing.
    #[error("throttle has no limit in it")]
    ThrottleNothing,
}

/// Why a device cannot be passed through as a SCSI logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLun {
    /// It is a file.
    #[error("it is an image file, not a SCSI disk: use type: Disk")]
    File,
    /// It is a part of a disk.
    #[error("it is a partition: use the whole disk, or type: Disk")]
    Partition,
    /// It does not take SCSI commands.
    #[error("it takes no SCSI commands (SG_IO), as only a SCSI disk does: use type: Disk")]
    NoSgIo,
    /// Its kernel's interface is too old for qemu.
    #[error("its generic SCSI interface has version {version}, and qemu needs 30000")]
    OldSgIo {
        /// The version it has.
        version: u32,
    },
    /// It is a tape, say.
    #[error("it is a SCSI device of type {peripheral_type}, and not a disk (type 0)")]
    NotDisk {
        /// The SCSI peripheral device type.
        peripheral_type: u8,
    },
}

/// The oldest generic SCSI interface that qemu takes (hw/scsi/scsi-disk.c).
const SG_VERSION: u32 = 30000;
/// SCSI peripheral device type of a disk (SPC-5, peripheral device type).
const TYPE_DISK: u8 = 0;

/// Refuses a device that is no SCSI logical unit.
pub fn check_lun(facts: &DeviceFacts) -> Result<(), NotLun> {
    if facts.kind == Kind::File {
        return Err(NotLun::File);
    }
    if facts.scsi.partition {
        return Err(NotLun::Partition);
    }
    match (facts.scsi.sg_version, facts.scsi.peripheral_type) {
        (None, _) => Err(NotLun::NoSgIo),
        (Some(version), _) if version < SG_VERSION => Err(NotLun::OldSgIo { version }),
        (Some(_), Some(peripheral_type)) if peripheral_type != TYPE_DISK => {
            Err(NotLun::NotDisk { peripheral_type })
        }
        // Without sysfs the interface itself has to do.
        (Some(_), Some(_) | None) => Ok(()),
    }
}

/// Refuses a disk whose fields do not go together.
pub fn check(disk: &Disk) -> Result<(), Impossible> {
    let bus = disk.bus;
    if disk.io == IoMode::Native && disk.cache != CacheMode::None {
        return Err(Impossible::NativeWithoutDirect { cache: disk.cache });
    }
    if disk.iothread && bus != DiskBus::Virtio {
        return Err(Impossible::IothreadOnBus { bus });
    }
    if disk.queues.is_some() && bus != DiskBus::Virtio {
        return Err(Impossible::QueuesOnBus { bus });
    }
    if disk.read_only && bus == DiskBus::Sata && disk.disk_type != DiskType::Cdrom {
        return Err(Impossible::ReadOnlySata);
    }
    if disk.detect_zeroes == DetectZeroes::Unmap && disk.discard == DiscardMode::Ignore {
        return Err(Impossible::UnmapWithoutDiscard);
    }
    disk.throttle.map_or(Ok(()), |limits| throttle(&limits))?;
    match disk.disk_type {
        DiskType::Disk => {}
        DiskType::Cdrom => cdrom(disk)?,
        DiskType::Lun => lun(disk)?,
    }
    if disk.cache == CacheMode::Writethrough && bus == DiskBus::Usb {
        return Err(Impossible::WritethroughOnUsb);
    }
    match disk.block_size {
        Some(_) if bus == DiskBus::Usb => Err(Impossible::BlockSizeOnUsb),
        Some(size) if bus == DiskBus::Sata && size.logical != SECTOR => {
            Err(Impossible::SectorsOnSata {
                logical: size.logical,
            })
        }
        _ => Ok(()),
    }
}

fn cdrom(disk: &Disk) -> Result<(), Impossible> {
    let bus = disk.bus;
    match bus {
        DiskBus::Virtio | DiskBus::Usb => Err(Impossible::CdromOnBus { bus }),
        DiskBus::Scsi | DiskBus::Sata if !disk.read_only => Err(Impossible::WritableCdrom),
        DiskBus::Scsi | DiskBus::Sata if disk.block_size.is_some() => {
            Err(Impossible::BlockSizeOnCdrom)
        }
        DiskBus::Scsi | DiskBus::Sata => Ok(()),
    }
}

fn lun(disk: &Disk) -> Result<(), Impossible> {
    if disk.bus != DiskBus::Scsi {
        return Err(Impossible::LunOnBus { bus: disk.bus });
    }
    if disk.cache != CacheMode::None {
        return Err(Impossible::LunCache { cache: disk.cache });
    }
    let settings = [
        ("throttle", disk.throttle.is_some()),
        ("blockSize", disk.block_size.is_some()),
        ("detectZeroes", disk.detect_zeroes != DetectZeroes::Ignore),
    ];
    match settings.into_iter().find(|(_, set)| *set) {
        Some((setting, _)) => Err(Impossible::OnLun { setting }),
        None => Ok(()),
    }
}

fn throttle(limits: &Throttle) -> Result<(), Impossible> {
    if !limits.iops.is_possible() || !limits.bytes.is_possible() {
        return Err(Impossible::ThrottleTwice);
    }
    if limits.iops.is_none() && limits.bytes.is_none() {
        return Err(Impossible::ThrottleNothing);
    }
    Ok(())
}
