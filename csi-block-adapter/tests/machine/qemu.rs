//! The options against the qemu that is installed: it takes every one of
//! them, while the guard is held, and has the disk as it was told to.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    num::NonZeroU64,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use coracle_api::{
    machine::{BlockSize, Burst, Disk, Rate, Throttle},
    report::TerminationReason::DiskBusy,
    types::{CacheMode, DetectZeroes, DiscardMode, DiskBus, DiskType, ErrorPolicy, IoMode},
};
use coracle_block::{
    device::{self, DeviceError, Holder},
    qemu::{DiskOptions, Host, Place, check, options},
    uring,
};
use serde_json::{Value, json};

use crate::support::*;

const QEMU: &str = "qemu-system-x86_64";
pub(crate) const BUSES: [DiskBus; 4] =
    [DiskBus::Virtio, DiskBus::Scsi, DiskBus::Sata, DiskBus::Usb];
pub(crate) const CACHES: [CacheMode; 3] = [
    CacheMode::None,
    CacheMode::Writeback,
    CacheMode::Writethrough,
];

/// A qemu with one disk and its CPUs stopped, spoken to over its standard
/// input and output.
pub(crate) struct Qemu {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Qemu {
    pub(crate) fn start(options: &DiskOptions) -> Result<Self, String> {
        let mut child = spawn(
            Command::new(QEMU)
                .args(["-nodefaults", "-no-user-config", "-display", "none", "-S"])
                .args(["-machine", "q35,accel=tcg", "-m", "32", "-qmp", "stdio"])
                .args(["-object", "iothread,id=iothread0"])
                .args([
                    "-device",
                    "virtio-scsi-pci,id=scsi0",
                    "-device",
                    "qemu-xhci,id=usb0",
                ])
                .args(options.to_arguments())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let stdin = child.stdin.take().expect("is piped");
        let stdout = BufReader::new(child.stdout.take().expect("is piped"));
        let mut qemu = Self {
            child,
            stdin,
            stdout,
        };
        match qemu.execute("qmp_capabilities") {
            Some(_) => Ok(qemu),
            None => Err(qemu.end()),
        }
    }

    /// The answer to a command; `None` when qemu has ended.
    fn execute(&mut self, command: &str) -> Option<Value> {
        self.answer(&json!({ "execute": command }))
    }

    /// Has a virtio disk read or write, with a command of qemu-io; a pattern that
    /// is not there ends the test.
    pub(crate) fn io(&mut self, command: &str) {
        let device = "/machine/peripheral/disk0/virtio-backend";
        let line = format!("qemu-io -d {device} \"{command}\"");
        let arguments = json!({ "command-line": line });
        let said =
            self.answer(&json!({ "execute": "human-monitor-command", "arguments": arguments }));
        assert_eq!(said, Some("".into()), "{command}");
    }

    fn answer(&mut self, command: &Value) -> Option<Value> {
        writeln!(self.stdin, "{command}").ok()?;
        let mut line = String::new();
        loop {
            line.clear();
            if self.stdout.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let mut message: Value = serde_json::from_str(&line).expect("is JSON");
            assert!(message.get("error").is_none(), "{message}");
            if let Some(answer) = message.get_mut("return") {
                return Some(answer.take());
            }
        }
    }

    /// What the disk's device has in qemu's eyes.
    fn inserted(&mut self) -> Value {
        let devices = self.execute("query-block").expect("answers");
        let inserted = |device: &Value| device["inserted"].clone();
        let mut inserted = devices.as_array().expect("is a list").iter().map(inserted);
        inserted
            .find(|node| node["node-name"] == "disk0")
            .expect("has the disk")
    }

    /// Waits for the end, and returns what it had to say.
    pub(crate) fn end(mut self) -> String {
        // It may have ended by itself.
        let _ended = self.execute("quit");
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().expect("is piped");
        stderr.read_to_string(&mut said).expect("is text");
        self.child.wait().expect("ends");
        said
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Nothing is left of it when a test fails, nor when it has ended.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

pub(crate) fn has_qemu() -> bool {
    has(QEMU)
}

pub(crate) fn options_for(disk: &Disk) -> (device::OpenDisk, DiskOptions) {
    let open = device::open(disk).unwrap_or_else(|error| panic!("{disk:?}: {error}"));
    let options = options(
        disk,
        Place {
            index: 0,
            sata_port: 5,
        },
        &open.facts,
        Host {
            vcpus: 2,
            io_uring: uring::probe(Path::new("/usr/bin/qemu-system-x86_64")),
        },
    );
    (open, options)
}

/// Starts qemu with a disk while its guard is held, looks, and ends it.
pub(crate) fn accepts(disk: &Disk) {
    let (guard, options) = options_for(disk);
    let mut qemu = Qemu::start(&options).unwrap_or_else(|error| panic!("{options:#?}: {error}"));
    let node = qemu.inserted();
    assert_eq!(node["ro"], disk.read_only, "{node}");
    assert_eq!(
        node["cache"]["direct"],
        disk.cache == CacheMode::None,
        "{node}"
    );
    assert_eq!(
        node["cache"]["writeback"],
        disk.cache != CacheMode::Writethrough,
        "{node}"
    );
    let said = qemu.end();
    assert_eq!(said, "", "{options:#?}");
    drop(guard);
    children_have_started();
}

#[test]
fn qemu_takes_every_bus_and_cache_on_a_device() {
    if !has_qemu() {
        return;
    }
    let Some(device) = Loop::new(4 * MIB, &[]) else {
        return;
    };
    for bus in BUSES {
        for cache in CACHES {
            let disk = Disk {
                bus,
                cache,
                ..device.disk()
            };
            if check(&disk).is_ok() {
                accepts(&disk);
            }
        }
    }
}

#[test]
fn qemu_takes_every_bus_and_cache_on_a_file() {
    if !has_qemu() {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let path = image(&dir, 4 * MIB);
    for bus in BUSES {
        for cache in CACHES {
            let disk = Disk {
                bus,
                cache,
                ..file_disk(&path)
            };
            if check(&disk).is_ok() {
                accepts(&disk);
            }
        }
    }
}

fn sectors(logical: u32, physical: u32) -> BlockSize {
    BlockSize { logical, physical }
}

#[test]
fn qemu_takes_every_other_setting() {
    let changes: &[fn(&mut Disk)] = &[
        |disk| disk.shareable = true,
        |disk| disk.read_only = true,
        |disk| disk.discard = DiscardMode::Ignore,
        |disk| disk.boot_index = Some(1),
        |disk| disk.serial = "a-b.c+d_e0123456789".into(),
        |disk| disk.error_policy = ErrorPolicy::Report,
        |disk| disk.error_policy = ErrorPolicy::Ignore,
        |disk| disk.error_policy = ErrorPolicy::Enospc,
        |disk| disk.block_size = Some(sectors(512, 32768)),
        |disk| disk.block_size = Some(sectors(4096, 4096)),
        |disk| disk.queues = Some(2),
        |disk| disk.iothread = true,
        |disk| disk.io = IoMode::Threads,
        |disk| disk.io = IoMode::IoUring,
        |disk| disk.detect_zeroes = DetectZeroes::WriteZeroes,
        |disk| disk.detect_zeroes = DetectZeroes::Unmap,
        |disk| {
            (disk.disk_type, disk.read_only) = (DiskType::Cdrom, true);
        },
        |disk| {
            let total = |limit| Rate {
                total: NonZeroU64::new(limit),
                ..Rate::default()
            };
            let burst = Some(Burst {
                factor: 10,
                seconds: 60,
            });
            disk.throttle = Some(Throttle {
                iops: total(100),
                bytes: total(10 << 20),
                burst,
            });
        },
    ];
    if !has_qemu() {
        return;
    }
    let Some(device) = Loop::new(4 * MIB, &[]) else {
        return;
    };
    for bus in BUSES {
        for change in changes {
            let mut disk = Disk {
                bus,
                ..device.disk()
            };
            change(&mut disk);
            // What is refused never reaches qemu.
            if check(&disk).is_ok() {
                accepts(&disk);
            }
        }
    }
}

#[test]
fn qemu_takes_every_bus_on_a_device_with_large_sectors() {
    if !has_qemu() {
        return;
    }
    let Some(device) = Loop::new(4 * MIB, &["--sector-size", "4096"]) else {
        return;
    };
    for bus in BUSES {
        accepts(&Disk {
            bus,
            ..device.disk()
        });
    }
}

#[test]
fn two_qemus_share_what_is_shareable() {
    if !has_qemu() {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let disk = Disk {
        shareable: true,
        ..file_disk(&image(&dir, MIB))
    };
    let (_first_guard, options) = options_for(&disk);
    let first = Qemu::start(&options).expect("starts");
    let (_second_guard, options) = options_for(&disk);
    let second = Qemu::start(&options).expect("starts beside the first");
    assert_eq!((second.end(), first.end()), (String::new(), String::new()));
}

#[test]
fn an_image_that_a_foreign_qemu_has_is_refused() {
    if !has_qemu() {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let disk = file_disk(&image(&dir, MIB));
    let (guard, options) = options_for(&disk);
    let facts = guard.facts.clone();
    drop(guard);
    children_have_started();
    let foreign = Qemu::start(&options).expect("starts");
    for read_only in [false, true] {
        let error = device::open(&Disk {
            read_only,
            ..disk.clone()
        })
        .expect_err("is refused");
        assert_eq!(error.reason(), DiskBusy);
        let DeviceError::Busy { holders, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(holders, [Holder::Qemu]);
    }
    assert_eq!(device::holders(&facts).expect("looks"), [Holder::Qemu]);
    foreign.end();
    device::open(&disk).expect("opens once it is gone");
}

#[test]
fn an_image_that_a_foreign_qemu_only_reads_may_be_read() {
    if !has_qemu() {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let disk = Disk {
        read_only: true,
        ..file_disk(&image(&dir, MIB))
    };
    let (_guard, options) = options_for(&disk);
    let foreign = Qemu::start(&options).expect("starts");
    accepts(&disk);
    foreign.end();
}
