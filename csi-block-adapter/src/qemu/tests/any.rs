//! Any disk, and anything that may be found for it.

use super::*;

fn any_kind() -> impl Strategy<Value = Kind> {
    select(vec![Kind::Block { major: 8, minor: 1 }, Kind::File])
}

fn any_discard() -> impl Strategy<Value = DeviceDiscard> {
    prop_oneof![
        Just(DeviceDiscard::Unknown),
        Just(DeviceDiscard::Unsupported),
        any::<u32>().prop_map(|granularity_bytes| DeviceDiscard::Supported { granularity_bytes }),
    ]
}

prop_compose! {
    pub(super) fn any_facts()(
        path in ".*",
        kind in any_kind(),
        (size_bytes, logical, physical) in (any::<u64>(), size(), size()),
        rotational in any::<Option<bool>>(),
        discard in any_discard(),
        read_only in any::<bool>(),
    ) -> DeviceFacts {
        DeviceFacts {
            path, kind, size_bytes, rotational, discard, read_only,
            logical_block_size: logical,
            physical_block_size: physical,
            disk_sequence: None,
            scsi: ScsiFacts::default(),
            image: None,
        }
    }
}

/// Sector sizes, good ones more often than by chance.
fn size() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        select(vec![0, 512, 520, 4096, 32768, 65536, 1 << 31])
    ]
}

fn any_bus() -> impl Strategy<Value = (DiskBus, CacheMode)> {
    (select(BUSES.to_vec()), select(CACHES.to_vec()))
}

prop_compose! {
    pub(super) fn any_disk()(
        (bus, cache) in any_bus(),
        io in select(vec![IoMode::Auto, IoMode::IoUring, IoMode::Native, IoMode::Threads]),
        discard in select(vec![DiscardMode::Unmap, DiscardMode::Ignore]),
        error_policy in select(vec![
            ErrorPolicy::Stop, ErrorPolicy::Report, ErrorPolicy::Ignore, ErrorPolicy::Enospc,
        ]),
        (read_only, shareable, iothread) in any::<(bool, bool, bool)>(),
        serial in ".*",
        boot_index in any::<Option<u32>>(),
        queues in any::<Option<u16>>(),
        block_size in option::of((size(), size())),
        disk_type in select(vec![DiskType::Disk, DiskType::Cdrom, DiskType::Lun]),
        detect_zeroes in select(vec![Zeroes::Ignore, Zeroes::WriteZeroes, Zeroes::Unmap]),
        throttle in any_throttle(),
    ) -> Disk {
        Disk {
            disk_type, detect_zeroes, throttle,
            bus, cache, io, discard, error_policy, read_only, shareable, iothread, serial,
            boot_index, queues,
            block_size: block_size.map(|(logical, physical)| BlockSize { logical, physical }),
            ..block_disk().0
        }
    }
}

pub(super) fn any_io_uring() -> impl Strategy<Value = Result<(), NoIoUring>> {
    select(vec![Ok(()), Err(NoIoUring::Sandbox), Err(NoIoUring::Qemu)])
}

fn any_rate() -> impl Strategy<Value = Rate> {
    let number = || option::of(any::<NonZeroU64>());
    let rate = (number(), number(), number());
    rate.prop_map(|(total, read, write)| Rate { total, read, write })
}

pub(super) fn any_throttle() -> impl Strategy<Value = Option<Throttle>> {
    let burst = option::of((any::<u32>(), any::<u32>()));
    let throttle = (any_rate(), any_rate(), burst);
    option::of(throttle.prop_map(|(iops, bytes, burst)| Throttle {
        iops,
        bytes,
        burst: burst.map(|(factor, seconds)| Burst { factor, seconds }),
    }))
}
