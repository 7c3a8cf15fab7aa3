//! `-device`: the guest's side of a disk, properties spelled as qemu spells
//! them (`qemu-system-x86_64 -device virtio-blk-pci,help`).

use std::{fmt::Write as _, num::NonZeroU32};

use coracle_api::{
    machine::Disk,
    types::{CacheMode, DiskBus, DiskType, ErrorPolicy},
};

use super::{DeviceFacts, OnOff, Place, block_sizes, discard_granularity, node_name, queues};

/// A `-device` of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Model, with the properties that only it has.
    pub driver: DeviceDriver,
    /// `disk<index>`.
    pub id: String,
    /// The node name of the [`super::Blockdev`].
    pub drive: String,
    /// Place in the boot order.
    pub bootindex: Option<u32>,
    /// The serial number.
    pub serial: String,
    /// Whether the guest sees a volatile write cache, and so sends flushes.
    /// Off, qemu flushes after every write.
    pub write_cache: OnOff,
    /// What happens when a write fails.
    pub werror: OnError,
    /// What happens when a read fails.
    pub rerror: OnError,
    /// Whether another qemu may have the image open for writing.
    pub share_rw: bool,
    /// Unit of addressing, other than 512.
    pub logical_block_size: Option<u32>,
    /// Unit of writing, other than 512.
    pub physical_block_size: Option<u32>,
    /// Unit of discarding.
    pub discard_granularity: Option<u32>,
}

/// Model of a [`Device`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceDriver {
    /// virtio-blk.
    VirtioBlkPci {
        /// Virtqueues.
        num_queues: NonZeroU32,
        /// Id of the I/O thread object.
        iothread: Option<String>,
    },
    /// A SCSI disk on the controller `scsi0`.
    ScsiHd {
        /// `1`: the guest takes it for a solid-state disk.
        rotation_rate: Option<u16>,
    },
    /// A disk on q35's AHCI controller.
    IdeHd {
        /// The port: `bus=ide.<port>`.
        port: usize,
        /// `1`: the guest takes it for a solid-state disk.
        rotation_rate: Option<u16>,
    },
    /// A CD-ROM drive on the controller `scsi0`.
    ScsiCd,
    /// A CD-ROM drive on q35's AHCI controller.
    IdeCd {
        /// The port: `bus=ide.<port>`.
        port: usize,
    },
    /// The host's SCSI logical unit on the controller `scsi0`: it has its own
    /// serial number, sector sizes and cache.
    ScsiBlock,
    /// A mass storage device on the USB controller `usb0`.
    UsbStorage,
}

/// `werror` and `rerror` of a [`Device`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The VM is paused.
    Stop,
    /// The guest is told.
    Report,
    /// Nobody is told.
    Ignore,
    /// Paused when space runs out, else the guest is told.
    Enospc,
}

impl OnError {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Report => "report",
            Self::Ignore => "ignore",
            Self::Enospc => "enospc",
        }
    }
}

impl Device {
    pub(super) fn new(disk: &Disk, place: Place, facts: &DeviceFacts, vcpus: u32) -> Self {
        let (logical_block_size, physical_block_size) = block_sizes(disk, facts);
        let (werror, rerror) = on_error(disk.error_policy, disk.read_only);
        let granularity = discard_granularity(disk, facts, logical_block_size);
        Self {
            driver: driver(disk, place, facts, vcpus),
            id: format!("disk{}", place.index),
            drive: node_name(place.index),
            bootindex: disk.boot_index,
            serial: disk.serial.clone(),
            write_cache: match disk.cache {
                CacheMode::None | CacheMode::Writeback => OnOff::On,
                CacheMode::Writethrough => OnOff::Off,
            },
            werror,
            rerror,
            share_rw: disk.shareable,
            logical_block_size,
            physical_block_size,
            discard_granularity: granularity,
        }
    }

    /// The option's argument.
    #[must_use]
    pub fn to_argument(&self) -> String {
        let mut text = Argument::new(self.driver.name());
        match &self.driver {
            DeviceDriver::VirtioBlkPci { .. } => {}
            DeviceDriver::ScsiHd { .. } | DeviceDriver::ScsiCd | DeviceDriver::ScsiBlock => {
                text.add("bus", "scsi0.0");
            }
            DeviceDriver::IdeHd { port, .. } | DeviceDriver::IdeCd { port } => {
                text.add("bus", &format!("ide.{port}"));
            }
            DeviceDriver::UsbStorage => text.add("bus", "usb0.0"),
        }
        text.add("id", &self.id);
        text.add("drive", &self.drive);
        let own = self.driver != DeviceDriver::ScsiBlock;
        if own {
            text.add("serial", &self.serial);
        }
        text.add_number("bootindex", self.bootindex);
        match &self.driver {
            DeviceDriver::VirtioBlkPci {
                num_queues,
                iothread,
            } => {
                text.add_number("num-queues", Some(num_queues.get()));
                if let Some(iothread) = iothread {
                    text.add("iothread", iothread);
                }
            }
            DeviceDriver::ScsiHd { rotation_rate } | DeviceDriver::IdeHd { rotation_rate, .. } => {
                text.add_number("rotation_rate", rotation_rate.map(u32::from));
            }
            DeviceDriver::ScsiCd
            | DeviceDriver::IdeCd { .. }
            | DeviceDriver::ScsiBlock
            | DeviceDriver::UsbStorage => {}
        }
        if own {
            text.add("write-cache", on_off(self.write_cache == OnOff::On));
        }
        text.add("werror", self.werror.as_str());
        text.add("rerror", self.rerror.as_str());
        text.add("share-rw", on_off(self.share_rw));
        text.add_number("logical_block_size", self.logical_block_size);
        text.add_number("physical_block_size", self.physical_block_size);
        text.add_number("discard_granularity", self.discard_granularity);
        text.0
    }
}

impl DeviceDriver {
    fn name(&self) -> &'static str {
        match self {
            Self::VirtioBlkPci { .. } => "virtio-blk-pci",
            Self::ScsiHd { .. } => "scsi-hd",
            Self::IdeHd { .. } => "ide-hd",
            Self::ScsiCd => "scsi-cd",
            Self::IdeCd { .. } => "ide-cd",
            Self::ScsiBlock => "scsi-block",
            Self::UsbStorage => "usb-storage",
        }
    }
}

fn driver(disk: &Disk, place: Place, facts: &DeviceFacts, vcpus: u32) -> DeviceDriver {
    let rotation_rate = (facts.rotational == Some(false)).then_some(1);
    let port = place.sata_port;
    match disk.bus {
        DiskBus::Scsi if disk.disk_type == DiskType::Cdrom => DeviceDriver::ScsiCd,
        DiskBus::Scsi if disk.disk_type == DiskType::Lun => DeviceDriver::ScsiBlock,
        DiskBus::Sata if disk.disk_type == DiskType::Cdrom => DeviceDriver::IdeCd { port },
        DiskBus::Virtio => DeviceDriver::VirtioBlkPci {
            num_queues: queues(disk, vcpus),
            iothread: disk.iothread.then(|| format!("iothread{}", place.index)),
        },
        DiskBus::Scsi => DeviceDriver::ScsiHd { rotation_rate },
        DiskBus::Sata => DeviceDriver::IdeHd {
            port,
            rotation_rate,
        },
        DiskBus::Usb => DeviceDriver::UsbStorage,
    }
}

/// `werror` and `rerror`. No read runs out of space, so `Enospc` reports them.
/// A write to a read-only disk is the guest's mistake: it gets the error, and
/// is not paused for something that no administrator could mend.
fn on_error(policy: ErrorPolicy, read_only: bool) -> (OnError, OnError) {
    let (werror, rerror) = by_policy(policy);
    (if read_only { OnError::Report } else { werror }, rerror)
}

fn by_policy(policy: ErrorPolicy) -> (OnError, OnError) {
    match policy {
        ErrorPolicy::Stop => (OnError::Stop, OnError::Stop),
        ErrorPolicy::Report => (OnError::Report, OnError::Report),
        ErrorPolicy::Ignore => (OnError::Ignore, OnError::Ignore),
        ErrorPolicy::Enospc => (OnError::Enospc, OnError::Report),
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// `driver,key=value,…`, where a comma in a value is doubled.
struct Argument(String);

impl Argument {
    fn new(driver: &str) -> Self {
        Self(driver.into())
    }

    fn add(&mut self, key: &str, value: &str) {
        let value = value.replace(',', ",,");
        write!(self.0, ",{key}={value}").expect("writing to a string");
    }

    fn add_number(&mut self, key: &str, value: Option<u32>) {
        if let Some(value) = value {
            self.add(key, &value.to_string());
        }
    }
}
