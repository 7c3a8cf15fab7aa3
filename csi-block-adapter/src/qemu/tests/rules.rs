//! The rules of the newer settings: limits, drives, logical units, and how
//! I/O is submitted.

use super::*;

fn changed(change: fn(&mut Disk)) -> Disk {
    let mut disk = block_disk().0;
    change(&mut disk);
    disk
}

#[test]
fn a_device_gets_native_aio_and_everything_else_io_uring_where_it_can_be_had() {
    let usable = Host {
        vcpus: 1,
        io_uring: Ok(()),
    };
    let (none, cached) = (CacheMode::None, CacheMode::Writeback);
    let [device, file, _] = sources();
    let cases = [
        (
            &device,
            none,
            usable,
            Aio::Native,
            "the fastest on a device",
        ),
        (
            &device,
            none,
            host(1),
            Aio::Native,
            "the fastest on a device",
        ),
        (&device, cached, usable, Aio::IoUring, "have io_uring"),
        (&device, cached, host(1), Aio::Threads, "sandbox refuses"),
        (&file, none, usable, Aio::IoUring, "have io_uring"),
        (&file, none, host(1), Aio::Native, "sandbox refuses"),
        (&file, cached, usable, Aio::IoUring, "have io_uring"),
        (&file, cached, host(1), Aio::Threads, "sandbox refuses"),
    ];
    for ((disk, facts), cache, host, wanted, why) in cases {
        let disk = Disk {
            cache,
            ..disk.clone()
        };
        let (aio, said) = decide::aio(&disk, facts, host);
        assert_eq!(aio, wanted);
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn what_the_manifest_says_is_never_replaced() {
    let disk = changed(|disk| disk.io = IoMode::IoUring);
    let facts = block_disk().1;
    assert_eq!(decide::aio(&disk, &facts, host(1)).0, Aio::IoUring);
    assert_eq!(io_uring(&disk, host(1)), Err(NoIoUring::Sandbox));
    assert_eq!(io_uring(&block_disk().0, host(1)), Ok(()));
}

#[test]
fn every_decision_has_a_reason() {
    for (disk, facts) in sources() {
        let decided = decisions(&disk, &facts, host(2));
        assert_eq!(decided.len(), 8);
        assert!(decided.iter().all(|decision| !decision.why.is_empty()));
        let aio = decided.iter().find(|decision| decision.setting == "aio");
        assert_eq!(aio.expect("is decided").value, "native");
    }
}

#[test]
fn only_a_whole_scsi_disk_is_a_logical_unit() {
    let scsi = |sg_version, peripheral_type, partition| ScsiFacts {
        sg_version,
        peripheral_type,
        partition,
    };
    let version = Some(30536);
    let cases = [
        (scsi(version, Some(0), false), Ok(())),
        (scsi(version, None, false), Ok(())),
        (scsi(version, Some(0), true), Err(NotLun::Partition)),
        (scsi(None, None, false), Err(NotLun::NoSgIo)),
        (
            scsi(Some(29999), Some(0), false),
            Err(NotLun::OldSgIo { version: 29999 }),
        ),
        (
            scsi(version, Some(5), false),
            Err(NotLun::NotDisk { peripheral_type: 5 }),
        ),
    ];
    for (scsi, wanted) in cases {
        let facts = DeviceFacts {
            scsi,
            ..block_disk().1
        };
        assert_eq!(check_lun(&facts), wanted);
    }
    assert_eq!(check_lun(&file_facts("/disk.img")), Err(NotLun::File));
}

/// A change to a good disk, and why it is refused then.
type Refused = (fn(&mut Disk), Impossible);

fn refuses(cases: impl IntoIterator<Item = Refused>) {
    for (change, refusal) in cases {
        assert_eq!(check(&changed(change)), Err(refusal));
    }
}

fn cdrom(disk: &mut Disk) {
    (disk.disk_type, disk.bus, disk.read_only) = (DiskType::Cdrom, DiskBus::Scsi, true);
}

fn lun(disk: &mut Disk) {
    (disk.disk_type, disk.bus) = (DiskType::Lun, DiskBus::Scsi);
}

#[test]
fn drives_have_rules_of_their_own() {
    let bus = DiskBus::Virtio;
    let cases: [Refused; 3] = [
        (
            |disk| (disk.disk_type, disk.read_only) = (DiskType::Cdrom, true),
            Impossible::CdromOnBus { bus },
        ),
        (
            |disk| {
                cdrom(disk);
                disk.read_only = false;
            },
            Impossible::WritableCdrom,
        ),
        (
            |disk| {
                cdrom(disk);
                disk.block_size = Some(sectors_of(512));
            },
            Impossible::BlockSizeOnCdrom,
        ),
    ];
    refuses(cases);
    assert_eq!(check(&changed(cdrom)), Ok(()));
    let on_sata = |disk: &mut Disk| {
        cdrom(disk);
        disk.bus = DiskBus::Sata;
    };
    assert_eq!(check(&changed(on_sata)), Ok(()));
}

#[test]
fn logical_units_have_rules_of_their_own() {
    let bus = DiskBus::Virtio;
    let cache = CacheMode::Writeback;
    let setting = "throttle";
    let cases: [Refused; 3] = [
        (
            |disk| disk.disk_type = DiskType::Lun,
            Impossible::LunOnBus { bus },
        ),
        (
            |disk| {
                lun(disk);
                disk.cache = CacheMode::Writeback;
            },
            Impossible::LunCache { cache },
        ),
        (
            |disk| {
                lun(disk);
                disk.throttle = Some(limits(1, None, 1));
            },
            Impossible::OnLun { setting },
        ),
    ];
    refuses(cases);
    assert_eq!(check(&changed(lun)), Ok(()));
}

#[test]
fn limits_and_zeroes_have_rules_of_their_own() {
    let cases: [Refused; 3] = [
        (
            |disk| {
                disk.detect_zeroes = Zeroes::Unmap;
                disk.discard = DiscardMode::Ignore;
            },
            Impossible::UnmapWithoutDiscard,
        ),
        (
            |disk| {
                let mut both = limits(1, None, 1);
                both.iops.read = both.iops.total;
                disk.throttle = Some(both);
            },
            Impossible::ThrottleTwice,
        ),
        (
            |disk| disk.throttle = Some(Throttle::default()),
            Impossible::ThrottleNothing,
        ),
    ];
    refuses(cases);
}

proptest! {
    #[test]
    fn limits_are_ones_that_qemu_takes(throttle in any_throttle()) {
        let disk = Disk { throttle, ..block_disk().0 };
        let options = options(&disk, FIRST, &block_disk().1, host(1));
        let Some(throttling) = options.throttling else { return Ok(()) };
        let group: serde_json::Value =
            serde_json::from_str(&throttling.group_json()).expect("is JSON");
        let limits = group["limits"].as_object().expect("is an object");
        for (key, value) in limits {
            let value = value.as_u64().expect("is a number");
            prop_assert!((1..=1_000_000_000_000_000).contains(&value));
            // A burst is above its limit, and its sum can be counted.
            if let Some(limit) = key.strip_suffix("-max") {
                let length = limits[&format!("{key}-length")].as_u64().expect("is a number");
                prop_assert!(value > limits[limit].as_u64().expect("is a number"));
                prop_assert!(length.checked_mul(value).is_some_and(|sum| sum <= 1_000_000_000_000_000));
            }
        }
    }
}
