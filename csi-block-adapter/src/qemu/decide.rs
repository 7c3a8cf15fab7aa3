//! What is decided for a disk, and why in words: for the shim's state report
//! and for `coracle-block inspect`. Pure; the options themselves are made from
//! the same functions.

use coracle_api::{
    machine::Disk,
    report::Decision,
    types::{CacheMode, DetectZeroes, DiscardMode, DiskBus, DiskType, ErrorPolicy, IoMode},
};

use super::{Aio, DeviceDiscard, DeviceFacts, Host, Kind, MAX_QUEUES, block_sizes, queues};
use crate::{
    device::{Format, ImageFacts},
    uring::NoIoUring,
};

/// What was decided for a disk, and why.
#[must_use]
pub fn decisions(disk: &Disk, facts: &DeviceFacts, host: Host) -> Vec<Decision> {
    let decision = |setting: &str, (value, why): (String, String)| Decision {
        setting: setting.to_owned(),
        value,
        why,
    };
    let (aio, aio_why) = aio(disk, facts, host);
    let mut decided = vec![
        decision("cache", cache(disk)),
        decision("aio", (aio_name(aio).to_owned(), aio_why)),
        decision("discard", discard(disk, facts)),
        decision("detectZeroes", detect_zeroes(disk)),
        decision("blockSize", block_size(disk, facts)),
        decision("errorPolicy", error_policy(disk)),
    ];
    decided.extend(
        facts
            .image
            .as_ref()
            .map(|about| decision("image", image(about))),
    );
    if disk.bus == DiskBus::Virtio {
        decided.push(decision("queues", queue_count(disk, host)));
        decided.push(decision("iothread", iothread(disk)));
    }
    decided
}

/// How I/O is submitted. Without a wish: native AIO where it is the fastest, on
/// a device with direct I/O; elsewhere `io_uring` where it can be had, because
/// native AIO would have qemu wait while a file system finds room for a file;
/// else native, which exists for direct I/O only, else threads.
pub(super) fn aio(disk: &Disk, facts: &DeviceFacts, host: Host) -> (Aio, String) {
    let direct = disk.cache == CacheMode::None;
    let device = matches!(facts.kind, Kind::Block { .. });
    match (disk.io, host.io_uring, direct) {
        (IoMode::IoUring, ..) => (Aio::IoUring, "the manifest says so".into()),
        (IoMode::Threads, ..) => (Aio::Threads, "the manifest says so".into()),
        (IoMode::Native, _, true) => (Aio::Native, "the manifest says so".into()),
        (IoMode::Auto, _, true) if device => (
            Aio::Native,
            "the fastest on a device with direct I/O".into(),
        ),
        (IoMode::Auto, Ok(()), _) => (
            Aio::IoUring,
            "kernel, sandbox and qemu have io_uring".into(),
        ),
        (IoMode::Auto, Err(why), true) => (
            Aio::Native,
            format!("{why}; native is next, and the disk has direct I/O"),
        ),
        (IoMode::Auto | IoMode::Native, Err(why), false) => (
            Aio::Threads,
            format!("{why}; native needs direct I/O, and the disk goes through the page cache"),
        ),
        // Refused by `check`.
        (IoMode::Native, Ok(()), false) => (Aio::Threads, "native needs direct I/O".into()),
    }
}

/// Refuses a disk that wants `io_uring` where it cannot be had: there is no
/// silent fallback from what a manifest says.
pub fn io_uring(disk: &Disk, host: Host) -> Result<(), NoIoUring> {
    match disk.io {
        IoMode::IoUring => host.io_uring,
        IoMode::Auto | IoMode::Native | IoMode::Threads => Ok(()),
    }
}

fn aio_name(aio: Aio) -> &'static str {
    match aio {
        Aio::Threads => "threads",
        Aio::Native => "native",
        Aio::IoUring => "io_uring",
    }
}

fn image(about: &ImageFacts) -> (String, String) {
    let format = match about.format {
        Format::Raw => "raw",
        Format::Qcow2 => "qcow2",
    };
    match &about.overlay {
        None => (format.into(), "read as it is, by its first bytes".into()),
        Some(path) => (
            format!("{format} under an overlay"),
            format!("what the guest writes is in {path}, which ends with the pod"),
        ),
    }
}

fn cache(disk: &Disk) -> (String, String) {
    let (value, why) = match disk.cache {
        CacheMode::None => ("none", "direct I/O; the guest's flushes reach the device"),
        CacheMode::Writeback => (
            "writeback",
            "through the host's page cache; the guest's flushes reach the device",
        ),
        CacheMode::Writethrough => (
            "writethrough",
            "through the host's page cache, flushed after every write",
        ),
    };
    (value.into(), why.into())
}

fn discard(disk: &Disk, facts: &DeviceFacts) -> (String, String) {
    match (disk.discard, facts.discard) {
        (DiscardMode::Ignore, _) => ("ignore".into(), "the manifest says so".into()),
        (DiscardMode::Unmap, DeviceDiscard::Supported { granularity_bytes }) => (
            "unmap".into(),
            format!("the device frees units of {granularity_bytes} bytes"),
        ),
        (DiscardMode::Unmap, DeviceDiscard::Unsupported) => (
            "unmap".into(),
            "passed on, though the device says that it frees nothing".into(),
        ),
        (DiscardMode::Unmap, DeviceDiscard::Unknown) => (
            "unmap".into(),
            match facts.kind {
                Kind::File => "the file system decides what it frees".into(),
                Kind::Block { .. } => "sysfs does not say what the device frees".into(),
            },
        ),
    }
}

fn detect_zeroes(disk: &Disk) -> (String, String) {
    let (value, why) = match disk.detect_zeroes {
        DetectZeroes::Ignore => ("off", "looking for zeroes costs a pass over every write"),
        DetectZeroes::WriteZeroes => ("on", "the manifest says so"),
        DetectZeroes::Unmap => ("unmap", "the manifest says so"),
    };
    (value.into(), why.into())
}

fn block_size(disk: &Disk, facts: &DeviceFacts) -> (String, String) {
    let (logical, physical) = block_sizes(disk, facts);
    let why = match (disk.disk_type, disk.bus, disk.block_size) {
        (DiskType::Cdrom, ..) => return ("2048/2048".into(), "a drive's sectors".into()),
        (DiskType::Lun, ..) => "the device's own",
        (DiskType::Disk, DiskBus::Usb, _) => "bus Usb shows no other",
        (DiskType::Disk, DiskBus::Sata, None) => "the device's, as far as bus Sata can show them",
        (DiskType::Disk, DiskBus::Virtio | DiskBus::Scsi | DiskBus::Sata, Some(_)) => {
            "the manifest says so"
        }
        (DiskType::Disk, DiskBus::Virtio | DiskBus::Scsi, None) => "the device's",
    };
    let (logical, physical) = if disk.disk_type == DiskType::Lun {
        (facts.logical_block_size, facts.physical_block_size)
    } else {
        (logical.unwrap_or(512), physical.unwrap_or(512))
    };
    (format!("{logical}/{physical}"), why.into())
}

fn error_policy(disk: &Disk) -> (String, String) {
    let (value, why) = match (disk.error_policy, disk.read_only) {
        (ErrorPolicy::Stop, false) => (
            "stop",
            "the guest waits, and goes on by itself once there is space again or the device is \
             well",
        ),
        (ErrorPolicy::Enospc, false) => (
            "enospc",
            "the guest waits while space is missing; it is told of other errors",
        ),
        (ErrorPolicy::Stop, true) => ("stop", "on reads; the guest is told that it cannot write"),
        (ErrorPolicy::Enospc, true) | (ErrorPolicy::Report, _) => ("report", "the guest is told"),
        (ErrorPolicy::Ignore, _) => ("ignore", "the manifest says so"),
    };
    (value.into(), why.into())
}

fn queue_count(disk: &Disk, host: Host) -> (String, String) {
    let count = queues(disk, host.vcpus).get();
    let why = match disk.queues {
        Some(wanted) if u32::from(wanted) == count => "the manifest says so".into(),
        Some(_) => "no more than virtual CPUs".into(),
        None if count < host.vcpus => format!("one for each virtual CPU, at most {MAX_QUEUES}"),
        None => "one for each virtual CPU".into(),
    };
    (count.to_string(), why)
}

fn iothread(disk: &Disk) -> (String, String) {
    if disk.iothread {
        ("yes".into(), "the manifest says so".into())
    } else {
        ("no".into(), "qemu's main loop does the I/O".into())
    }
}
