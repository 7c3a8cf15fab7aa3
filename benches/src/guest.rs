//! The guests: a Linux that says a line from its first process, and a boot
//! sector that only spins.

use std::path::{Path, PathBuf};

use coracle_api::machine::{Cpu, Disk, DiskSource, Firmware, MACHINE_VERSION, Machine};
use coracle_api::types::{
    Accelerator, CacheMode, DetectZeroes, DiscardMode, DiskBus, DiskType, ErrorPolicy, IoMode,
};
use coracle_benches::{CMDLINE, STAY};

/// Has it load its first disk as lines on its console say.
const LOAD: &str = "coracle.bench=load";
const MEMORY: u64 = 256 << 20;

/// A kernel and an initial ram disk.
#[derive(Clone, Debug)]
pub(crate) struct Linux {
    pub dir: PathBuf,
}

/// What the Linux guest does after it has said its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    PowerOff,
    Stay,
    Load,
}

impl Linux {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
        }
    }

    /// The guest's kernel command line.
    pub(crate) fn cmdline(then: Then) -> String {
        match then {
            Then::PowerOff => CMDLINE.to_owned(),
            Then::Stay => format!("{CMDLINE} {STAY}"),
            Then::Load => format!("{CMDLINE} {LOAD}"),
        }
    }

    /// A machine that boots it, with a disk to be like others.
    pub(crate) fn machine(&self, then: Then, disk: &Path) -> Machine {
        let file = |name| self.dir.join(name).display().to_string();
        let firmware = Firmware::Kernel {
            kernel: file("vmlinuz"),
            initrd: Some(file("initrd")),
            cmdline: Self::cmdline(then),
        };
        machine(firmware, disk)
    }
}

/// A machine that boots a disk.
pub(crate) fn boots(disk: &Path) -> Machine {
    machine(Firmware::Bios {}, disk)
}

fn machine(firmware: Firmware, disk: &Path) -> Machine {
    Machine {
        version: MACHINE_VERSION,
        name: "bench".into(),
        namespace: "default".into(),
        uid: None,
        accelerator: Accelerator::Emulation,
        cpu: Cpu {
            sockets: 1,
            cores: 1,
            threads: 1,
            model: None,
        },
        memory_bytes: MEMORY,
        firmware,
        disks: vec![Disk {
            name: "root".into(),
            source: DiskSource::File {
                path: disk.display().to_string(),
                create_bytes: None,
            },
            bus: DiskBus::Virtio,
            disk_type: DiskType::Disk,
            // Whatever file system the temporary directory is on has it.
            cache: CacheMode::Writeback,
            io: IoMode::Auto,
            discard: DiscardMode::Unmap,
            detect_zeroes: DetectZeroes::Ignore,
            error_policy: ErrorPolicy::Stop,
            read_only: false,
            shareable: false,
            serial: "root".into(),
            boot_index: Some(1),
            iothread: false,
            queues: None,
            block_size: None,
            throttle: None,
        }],
        interfaces: vec![],
        devices: vec![],
        shutdown_seconds: 5,
    }
}
