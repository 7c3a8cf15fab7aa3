//! Golden options for every bus, cache and source, and the rules that hold
//! for all of them.

use std::{fmt::Write as _, num::NonZeroU64};

use coracle_api::{
    machine::{BlockSize, Burst, DiskSource, Rate, Throttle},
    types::{CacheMode, DetectZeroes as Zeroes, ErrorPolicy, IoMode},
};
use proptest::{option, prelude::*, sample::select};

mod any;
mod images;
mod rules;

use super::*;
use crate::device::ScsiFacts;
use any::{any_disk, any_facts, any_io_uring, any_throttle};

const BUSES: [DiskBus; 4] = [DiskBus::Virtio, DiskBus::Scsi, DiskBus::Sata, DiskBus::Usb];
const CACHES: [CacheMode; 3] = [
    CacheMode::None,
    CacheMode::Writeback,
    CacheMode::Writethrough,
];
const FIRST: Place = Place {
    index: 0,
    sata_port: 0,
};

/// A host whose sandbox is the container runtime's default one.
fn host(vcpus: u32) -> Host {
    Host {
        vcpus,
        io_uring: Err(NoIoUring::Sandbox),
    }
}

fn disk(source: DiskSource) -> Disk {
    Disk {
        name: "root".into(),
        source,
        bus: DiskBus::Virtio,
        disk_type: DiskType::Disk,
        cache: CacheMode::None,
        io: IoMode::Auto,
        discard: DiscardMode::Unmap,
        detect_zeroes: Zeroes::Ignore,
        error_policy: ErrorPolicy::Stop,
        read_only: false,
        shareable: false,
        serial: "root".into(),
        boot_index: Some(1),
        iothread: false,
        queues: None,
        block_size: None,
        throttle: None,
    }
}

fn block_disk() -> (Disk, DeviceFacts) {
    let path = "/dev/coracle/root";
    let facts = DeviceFacts {
        path: path.into(),
        kind: Kind::Block { major: 7, minor: 0 },
        size_bytes: 10 << 30,
        logical_block_size: 512,
        physical_block_size: 512,
        rotational: Some(false),
        discard: DeviceDiscard::Supported {
            granularity_bytes: 4096,
        },
        read_only: false,
        disk_sequence: Some(7),
        scsi: ScsiFacts::default(),
        image: None,
    };
    (disk(DiskSource::Block { path: path.into() }), facts)
}

fn file_facts(path: &str) -> DeviceFacts {
    DeviceFacts {
        path: path.into(),
        kind: Kind::File,
        size_bytes: 10 << 30,
        logical_block_size: 512,
        physical_block_size: 512,
        rotational: None,
        discard: DeviceDiscard::Unknown,
        read_only: false,
        disk_sequence: None,
        scsi: ScsiFacts::default(),
        image: None,
    }
}

/// One of each source that the device side opens.
fn sources() -> [(Disk, DeviceFacts); 3] {
    let file = "/var/lib/coracle/disks/root/disk.img";
    let scratch = "/var/lib/coracle/ephemeral/root/disk.img";
    [
        block_disk(),
        (
            disk(DiskSource::File {
                path: file.into(),
                create_bytes: Some(10 << 30),
            }),
            file_facts(file),
        ),
        (
            disk(DiskSource::Ephemeral {
                path: scratch.into(),
                size_bytes: 10 << 30,
            }),
            file_facts(scratch),
        ),
    ]
}

fn render(options: &DiskOptions) -> String {
    let arguments = options.to_arguments();
    let lines = arguments.chunks(2).map(|pair| pair.join(" ") + "\n");
    lines.collect()
}

fn source_name(source: &DiskSource) -> &'static str {
    match source {
        DiskSource::Block { .. } => "Block",
        DiskSource::File { .. } => "File",
        DiskSource::Ephemeral { .. } => "Ephemeral",
        DiskSource::Image { .. } => "Image",
        DiskSource::CloudInit { .. } => "CloudInit",
    }
}

#[test]
fn every_bus_with_every_cache_and_source() {
    for bus in BUSES {
        let mut text = String::new();
        for cache in CACHES {
            for (disk, facts) in sources() {
                let disk = Disk { bus, cache, ..disk };
                if check(&disk) == Err(Impossible::WritethroughOnUsb) {
                    continue;
                }
                let options = render(&options(&disk, FIRST, &facts, host(2)));
                let source = source_name(&disk.source);
                writeln!(text, "# {bus:?}, cache {cache:?}, {source}\n{options}")
                    .expect("writes to a string");
            }
        }
        insta::assert_snapshot!(format!("{bus:?}").to_lowercase(), text.trim_end());
    }
}

/// A change to a good disk, and its title.
type Change = (&'static str, fn(&mut Disk, &mut DeviceFacts));

const CHANGES: [Change; 20] = [
    ("read-only", |disk, _| disk.read_only = true),
    ("shareable", |disk, _| disk.shareable = true),
    ("with an I/O thread", |disk, _| disk.iothread = true),
    ("with one queue", |disk, _| disk.queues = Some(1)),
    ("with io_uring", |disk, _| disk.io = IoMode::IoUring),
    ("with threads", |disk, _| disk.io = IoMode::Threads),
    ("discards ignored", |disk, _| {
        disk.discard = DiscardMode::Ignore;
    }),
    ("errors reported", |disk, _| {
        disk.error_policy = ErrorPolicy::Report;
    }),
    ("errors ignored", |disk, _| {
        disk.error_policy = ErrorPolicy::Ignore;
    }),
    ("stopped when space runs out", |disk, _| {
        disk.error_policy = ErrorPolicy::Enospc;
    }),
    ("on a 4Kn device", |_, facts| {
        facts.logical_block_size = 4096;
        facts.physical_block_size = 4096;
    }),
    ("on a 512e device", |_, facts| {
        facts.physical_block_size = 4096;
    }),
    ("with sector sizes of its own", |disk, _| {
        disk.block_size = Some(BlockSize {
            logical: 512,
            physical: 16384,
        });
    }),
    ("not in the boot order, odd serial", |disk, _| {
        disk.boot_index = None;
        disk.serial = "a,b=c".into();
    }),
    ("zeroes become discards", |disk, _| {
        disk.detect_zeroes = Zeroes::Unmap;
    }),
    ("with a total limit", |disk, _| {
        disk.throttle = Some(limits(500, None, 10 << 20));
    }),
    ("with limits of reads and writes, and bursts", |disk, _| {
        let burst = Some(Burst {
            factor: 4,
            seconds: 30,
        });
        disk.throttle = Some(Throttle {
            iops: Rate::default(),
            bytes: Rate {
                total: None,
                read: NonZeroU64::new(20 << 20),
                write: NonZeroU64::new(10 << 20),
            },
            burst,
        });
    }),
    ("a CD-ROM drive on bus Scsi", |disk, _| {
        (disk.bus, disk.disk_type, disk.read_only) = (DiskBus::Scsi, DiskType::Cdrom, true);
    }),
    ("a CD-ROM drive on bus Sata", |disk, _| {
        (disk.bus, disk.disk_type, disk.read_only) = (DiskBus::Sata, DiskType::Cdrom, true);
    }),
    ("a SCSI logical unit", |disk, _| {
        (disk.bus, disk.disk_type) = (DiskBus::Scsi, DiskType::Lun);
    }),
];

fn limits(iops: u64, burst: Option<Burst>, bytes: u64) -> Throttle {
    let total = |limit| Rate {
        total: NonZeroU64::new(limit),
        ..Rate::default()
    };
    Throttle {
        iops: total(iops),
        bytes: total(bytes),
        burst,
    }
}

#[test]
fn every_other_setting() {
    let mut text = String::new();
    for (title, change) in CHANGES {
        let (mut disk, mut facts) = block_disk();
        change(&mut disk, &mut facts);
        check(&disk).expect("goes together");
        let options = render(&options(&disk, FIRST, &facts, host(4)));
        writeln!(text, "# {title}\n{options}").expect("writes to a string");
    }
    insta::assert_snapshot!("settings", text.trim_end());
}

fn refusal(bus: DiskBus, change: fn(&mut Disk)) -> Impossible {
    let mut disk = Disk {
        bus,
        ..block_disk().0
    };
    check(&disk).expect("goes together");
    change(&mut disk);
    check(&disk).expect_err("is refused")
}

fn sectors_of(logical: u32) -> BlockSize {
    BlockSize {
        logical,
        physical: 4096,
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let cache = CacheMode::Writeback;
    let native = |disk: &mut Disk| {
        disk.io = IoMode::Native;
        disk.cache = CacheMode::Writeback;
    };
    let writethrough = |disk: &mut Disk| disk.cache = CacheMode::Writethrough;
    assert_eq!(
        refusal(DiskBus::Virtio, native),
        Impossible::NativeWithoutDirect { cache }
    );
    for bus in [DiskBus::Scsi, DiskBus::Sata, DiskBus::Usb] {
        let iothread = refusal(bus, |disk| disk.iothread = true);
        assert_eq!(iothread, Impossible::IothreadOnBus { bus });
        let queues = refusal(bus, |disk| disk.queues = Some(2));
        assert_eq!(queues, Impossible::QueuesOnBus { bus });
    }
    let read_only = refusal(DiskBus::Sata, |disk| disk.read_only = true);
    assert_eq!(read_only, Impossible::ReadOnlySata);
    let large = refusal(DiskBus::Sata, |disk| {
        disk.block_size = Some(sectors_of(4096));
    });
    assert_eq!(large, Impossible::SectorsOnSata { logical: 4096 });
    let any = refusal(DiskBus::Usb, |disk| disk.block_size = Some(sectors_of(512)));
    assert_eq!(any, Impossible::BlockSizeOnUsb);
    assert_eq!(
        refusal(DiskBus::Usb, writethrough),
        Impossible::WritethroughOnUsb
    );
}

#[test]
fn sata_ports_are_counted_apart_from_the_other_disks() {
    let on = |bus| Disk {
        bus,
        ..block_disk().0
    };
    let mut disks: Vec<_> = (0..3).map(|_| on(DiskBus::Virtio)).collect();
    disks.extend((0..SATA_PORTS).map(|_| on(DiskBus::Sata)));
    let ports: Vec<_> = places(&disks)
        .expect("has room")
        .iter()
        .map(|place| (place.index, place.sata_port))
        .skip(3)
        .collect();
    assert_eq!(ports, [(3, 0), (4, 1), (5, 2), (6, 3), (7, 4), (8, 5)]);

    disks.push(Disk {
        name: "one-more".into(),
        ..on(DiskBus::Sata)
    });
    assert_eq!(
        places(&disks),
        Err(Impossible::SataFull {
            disk: "one-more".into()
        })
    );
}

/// The properties of a `-device` argument, with doubled commas undone.
fn properties(argument: &str) -> Vec<(String, String)> {
    let pairs = argument.replace(",,", "\0");
    let pairs = pairs.split(',').skip(1);
    let pair = |text: &str| {
        let (key, value) = text.split_once('=').expect("is a pair");
        (key.to_owned(), value.replace('\0', ","))
    };
    pairs.map(pair).collect()
}

proptest! {
    #[test]
    fn options_never_panic_and_agree_with_themselves(
        disk in any_disk(),
        io_uring in any_io_uring(),
        facts in any_facts(),
        index in 0usize..100,
        vcpus in any::<u32>(),
    ) {
        let place = Place { index, sata_port: index % SATA_PORTS };
        let DiskOptions { blockdev, image, throttling, device } = options(&disk, place, &facts, Host { vcpus, io_uring });
        prop_assert_eq!(image, None);

        prop_assert!(blockdev.aio != Aio::Native || blockdev.cache.direct);
        prop_assert!(!blockdev.cache.no_flush && !blockdev.auto_read_only);
        prop_assert_eq!(blockdev.read_only, disk.read_only);
        prop_assert_eq!(&device.drive, &node_name(index));
        prop_assert_eq!(index_of(&device.drive), Some(index));
        let top = throttling.as_ref().map_or(&blockdev.node_name, |_| &device.drive);
        prop_assert_eq!(top, &device.drive);
        prop_assert_eq!(throttling.is_some(), disk.throttle.is_some());
        let json: serde_json::Value = serde_json::from_str(&blockdev.to_json()).expect("is JSON");
        prop_assert_eq!(json["filename"].as_str(), Some(facts.path.as_str()));

        let logical = device.logical_block_size.unwrap_or(512);
        let physical = device.physical_block_size.unwrap_or(512);
        prop_assert!(logical.is_power_of_two() && physical.is_power_of_two());
        prop_assert!((512..=32768).contains(&logical) && (logical..=32768).contains(&physical));
        let granularity = device.discard_granularity.unwrap_or(logical);
        prop_assert!(granularity != 0 && granularity.is_multiple_of(logical));
        if let DeviceDriver::VirtioBlkPci { num_queues, .. } = &device.driver {
            prop_assert!(num_queues.get() <= vcpus.clamp(1, MAX_QUEUES));
        }

        let properties = properties(&device.to_argument());
        let value = |key: &str| properties.iter().find(|(name, _)| name == key);
        if !disk.serial.contains('\0') && device.driver != DeviceDriver::ScsiBlock {
            prop_assert_eq!(&value("serial").expect("is there").1, &disk.serial);
        }
        let mut keys: Vec<_> = properties.iter().map(|(key, _)| key).collect();
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), properties.len());
    }
}
