//! What becomes of a disk while its guest runs: no room, errors, limits, and a
//! qemu that is killed.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use coracle_api::{
    machine::{Disk, DiskSource, Rate, Throttle},
    report::{DiskState, Status, TerminationReason as Reason},
    types::{CacheMode, ErrorPolicy, IoMode},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    bench::{Bench, PATIENCE, Running, has_qemu},
    devices::{Loop, Tmpfs, image},
};

pub(crate) const MIB: u64 = 1 << 20;
/// How many sectors the guest `journal` writes before it begins anew.
const SECTORS: usize = 2048;

/// A bench whose guest sees `path` as its second disk.
pub(crate) fn with_data(guest: &str, path: &Path, change: impl FnOnce(&mut Disk)) -> Bench {
    let mut bench = Bench::new(guest);
    let mut data = Disk {
        name: "data".into(),
        serial: "data".into(),
        boot_index: Some(2),
        source: DiskSource::File {
            path: path.display().to_string(),
            create_bytes: Some(MIB),
        },
        ..bench.machine.disks[0].clone()
    };
    change(&mut data);
    bench.machine.disks.push(data);
    bench.write_machine();
    bench
}

pub(crate) fn direct(disk: &mut Disk) {
    (disk.cache, disk.io) = (CacheMode::None, IoMode::Auto);
}

/// The state of the disk with this name, once it is as it should be.
pub(crate) fn wait_for_disk(
    bench: &Bench,
    name: &str,
    is: impl Fn(&DiskState) -> bool,
) -> DiskState {
    let start = Instant::now();
    loop {
        let disks = bench.state().disks;
        let disk = disks.into_iter().find(|disk| disk.name == name);
        let disk = disk.expect("is there");
        if is(&disk) {
            return disk;
        }
        assert!(start.elapsed() < PATIENCE, "{disk:?}");
    }
}

pub(crate) fn stop(shim: Running) {
    shim.signal(Signal::SIGTERM);
    shim.end().assert_code(0);
}

#[test]
fn a_guest_without_room_waits_and_goes_on_by_itself_once_there_is_some() {
    if !has_qemu() {
        return;
    }
    let Some(full) = Tmpfs::new(256 << 10) else {
        return;
    };
    let bench = with_data("journal", &full.path("disk.img"), |_| {});
    let ballast = full.path("ballast");
    fs::write(&ballast, vec![1; 192 << 10]).expect("fills the file system");
    let shim = bench.run();
    shim.wait_for_log("the disk has no room");
    bench.wait_for_status(Status::Paused);
    let disk = wait_for_disk(&bench, "data", |disk| disk.last_error.is_some());
    let error = disk.last_error.expect("is there");
    assert!(error.no_space && error.stopped && error.operation == "write");

    // The disk needs more than what this frees, and fills it once more.
    fs::remove_file(&ballast).expect("makes room");
    full.grow(8 * MIB);
    shim.wait_for("00000700 is");
    assert_eq!(bench.state().status, Status::Running);
    shim.signal(Signal::SIGTERM);
    let ended = shim.end();
    ended.assert_code(0);
    assert!(!ended.stdout.contains("disk error"));
    assert_eq!(bench.termination().reason, Reason::Stopped);
}

/// A qemu that puts a failing layer under the second disk.
fn failing_qemu(dir: &Path, errno: i32) -> PathBuf {
    let path = dir.join("failing-qemu");
    let layer = format!(
        "driver=blkdebug,node-name=disk1,image=below,inject-error.0.event=none,\
         inject-error.0.iotype=write,inject-error.0.errno={errno},inject-error.0.once=on"
    );
    let script = format!(
        "#!/bin/sh\nfor argument do\n  shift\n  case $argument in\n\
         *'\"node-name\":\"disk1\"'*)\n\
         set -- \"$@\" \"$(printf %s \"$argument\" | /bin/sed s/disk1/below/)\" -blockdev {layer};;\n\
         *) set -- \"$@\" \"$argument\";;\n  esac\ndone\nexec {} \"$@\"\n",
        coracle_shim::qemu::PROGRAM
    );
    fs::write(&path, script).expect("writes a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("lets it run");
    path
}

fn failing(errno: i32, policy: ErrorPolicy) -> (Bench, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("makes a directory");
    let mut bench = with_data("journal", &dir.path().join("data.img"), |disk| {
        disk.error_policy = policy;
    });
    let qemu = failing_qemu(dir.path(), errno);
    bench.set_qemu(qemu.to_str().expect("is UTF-8"));
    (bench, dir)
}

#[test]
fn after_an_error_of_the_device_the_guest_is_let_try_again() {
    if !has_qemu() {
        return;
    }
    let (bench, _dir) = failing(nix::libc::EIO, ErrorPolicy::Stop);
    let shim = bench.run();
    shim.wait_for_log("disk error: the guest waits");
    shim.wait_for("00000040 is");
    stop(shim);
}

#[test]
fn a_device_that_says_it_has_no_space_is_tried_again() {
    if !has_qemu() {
        return;
    }
    let (bench, _dir) = failing(nix::libc::ENOSPC, ErrorPolicy::Enospc);
    let shim = bench.run();
    shim.wait_for_log("the disk has no room");
    shim.wait_for("00000040 is");
    stop(shim);
}

#[test]
fn a_pause_that_was_asked_for_outlasts_the_disk_s_trouble() {
    if !has_qemu() {
        return;
    }
    let Some(full) = Tmpfs::new(256 << 10) else {
        return;
    };
    let bench = with_data("journal", &full.path("disk.img"), |_| {});
    let shim = bench.run();
    shim.wait_for_log("the disk has no room");
    bench.wait_for_status(Status::Paused);
    bench.ok(&["pause"]);
    full.grow(8 * MIB);
    assert_eq!(bench.state().status, Status::Paused);
    bench.ok(&["resume"]);
    shim.wait_for("00000700 is");
    stop(shim);
}

#[test]
fn errors_that_are_reported_are_the_guest_s_to_handle() {
    if !has_qemu() {
        return;
    }
    let (bench, _dir) = failing(nix::libc::EIO, ErrorPolicy::Report);
    let ended = bench.run().end();
    ended.assert_code(0);
    assert!(ended.stdout.contains("disk error"), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("the guest was told"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_limit_holds() {
    if !has_qemu() {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let bench = with_data("journal", &dir.path().join("data.img"), |disk| {
        let total = std::num::NonZeroU64::new(100);
        let iops = Rate {
            total,
            ..Rate::default()
        };
        disk.throttle = Some(Throttle {
            iops,
            ..Throttle::default()
        });
    });
    let shim = bench.run();
    shim.wait_for("00000008 is");
    let start = Instant::now();
    shim.wait_for("00000090 is");
    // 136 sectors, each written and read: 2.7 s at 100 requests per second,
    // less what may come at once. A slow machine only takes longer.
    let took = start.elapsed();
    assert!(took > Duration::from_millis(1800), "{took:?}");
    stop(shim);
}

#[test]
fn what_the_guest_has_written_survives_the_end_of_qemu() {
    if !has_qemu() {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let path = image(dir.path(), MIB);
    let Some(device) = Loop::new(&path) else {
        return;
    };
    let bench = with_data("journal", Path::new(device.path()), direct);
    let shim = bench.run();
    shim.wait_for("00000140 is");
    let qemu = bench.state().pid.expect("runs");
    kill(Pid::from_raw(qemu.cast_signed()), Signal::SIGKILL).expect("kills it");
    let ended = shim.end();
    ended.assert_code(1);
    check_all(Path::new(device.path()), &ended.stdout);
}

/// Fails unless the disk has what the guest `journal` says that it has written.
pub(crate) fn check_all(disk: &Path, said: &str) {
    let number = |line: &str| {
        let number = line.strip_suffix(" is written")?;
        usize::from_str_radix(number, 16).ok()
    };
    let last = said.lines().filter_map(number).next_back();
    let last = last.expect("wrote");
    assert!(last < SECTORS, "the guest has begun anew");
    let disk = File::open(disk).expect("opens");
    for number in 0..=last {
        let mut sector = [0; 512];
        disk.read_exact_at(&mut sector, number as u64 * 512)
            .expect("reads");
        check(number, &sector);
    }
}

/// Fails unless the sector is what the guest `journal` writes.
fn check(number: usize, sector: &[u8; 512]) {
    let (words, _) = sector.as_chunks::<4>();
    let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let (sum, words) = words.split_last().expect("has words");
    let first = u32::try_from(number).expect("is small");
    let expected = (0..127).map(|step: u32| first.wrapping_add(step.wrapping_mul(0x9e37_79b1)));
    assert!(words.iter().copied().eq(expected), "sector {number}");
    let total = words
        .iter()
        .fold(0_u32, |sum, word| sum.wrapping_add(*word));
    assert_eq!(total, *sum, "sector {number}");
}

#[test]
fn a_lun_on_a_device_that_is_none_is_refused() {
    let mut bench = Bench::new("power-button");
    let Some(device) = Loop::new(&bench.path("disk.img")) else {
        return;
    };
    let disk = &mut bench.machine.disks[0];
    disk.source = DiskSource::Block {
        path: device.path().to_owned(),
    };
    direct(disk);
    disk.bus = coracle_api::types::DiskBus::Scsi;
    disk.disk_type = coracle_api::types::DiskType::Lun;
    bench.write_machine();
    bench.run().end().assert_code(3);
    let termination = bench.termination();
    assert_eq!(termination.reason, Reason::DiskInvalid);
    assert!(
        termination.message.contains("SG_IO"),
        "{}",
        termination.message
    );
}

#[test]
fn the_state_says_how_each_disk_is_used_and_why() {
    if !has_qemu() {
        return;
    }
    let bench = Bench::new("power-button");
    let shim = bench.run();
    shim.wait_for("guest ready");
    let disk = bench.state().disks.remove(0);
    assert_eq!((disk.name.as_str(), disk.size_bytes), ("root", MIB));
    assert_eq!(
        (disk.logical_block_size, disk.physical_block_size),
        (512, 512)
    );
    let value = |setting| {
        let decision = disk.decisions.iter().find(|d| d.setting == setting);
        decision.expect("was decided").value.as_str()
    };
    assert_eq!(value("aio"), "threads");
    assert_eq!(value("cache"), "writeback");
    assert_eq!(value("queues"), "1");
    assert!(
        disk.decisions
            .iter()
            .all(|decision| !decision.why.is_empty())
    );
    stop(shim);
}

#[test]
fn a_device_that_became_another_disk_is_refused_when_the_vm_starts_again() {
    let mut bench = Bench::new("hello-poweroff");
    let image = bench.path("disk.img");
    let Some(device) = Loop::new(&image) else {
        return;
    };
    if !has_qemu() {
        return;
    }
    bench.machine.disks[0].source = DiskSource::Block {
        path: device.path().to_owned(),
    };
    bench.write_machine();
    bench.run().end().assert_code(0);
    // Started again in place, it is the same disk.
    bench.run().end().assert_code(0);
    if !device.replace() {
        return;
    }
    bench.run().end().assert_code(3);
    let termination = bench.termination();
    assert_eq!(termination.reason, Reason::DiskInvalid);
    assert!(
        termination.message.contains("is not the disk it was"),
        "{}",
        termination.message
    );
}
