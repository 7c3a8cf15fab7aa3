//! Two VMs that want one disk at the same moment, over and over: never both.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use coracle_api::{machine::Disk, report::TerminationReason::DiskBusy};
use coracle_block::device;

use crate::support::*;

const RACES: usize = 1000;
/// Disks that are raced for at the same time: who loses has patience first.
const DISKS: usize = 8;

/// How often two that start at once both get the disk, and how often one does.
fn race(disk: &Disk) -> (usize, usize) {
    let start = Barrier::new(2);
    let (holders, both, one) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let vm = || {
        for _ in 0..RACES / DISKS {
            start.wait();
            let open = device::open(disk);
            match &open {
                Ok(_) => {
                    one.fetch_add(1, Ordering::SeqCst);
                    both.fetch_add(holders.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                }
                Err(error) => assert_eq!(error.reason(), DiskBusy, "{error}"),
            }
            // Nobody lets go before both have tried.
            start.wait();
            if open.is_ok() {
                holders.fetch_sub(1, Ordering::SeqCst);
            }
            drop(open);
        }
    };
    thread::scope(|scope| {
        scope.spawn(vm);
        scope.spawn(vm);
    });
    (both.into_inner(), one.into_inner())
}

fn races(disks: &[Disk]) {
    let race = |disk| thread::spawn(move || race(&disk));
    let races: Vec<_> = disks.iter().cloned().map(race).collect();
    for result in races {
        assert_eq!(result.join().expect("does not panic"), (0, RACES / DISKS));
    }
}

#[test]
fn of_two_vms_that_race_for_a_device_a_thousand_times_never_both_get_it() {
    let devices: Option<Vec<Loop>> = (0..DISKS).map(|_| Loop::new(MIB, &[])).collect();
    let Some(devices) = devices else { return };
    races(&devices.iter().map(Loop::disk).collect::<Vec<_>>());
}

#[test]
fn of_two_vms_that_race_for_an_image_a_thousand_times_never_both_get_it() {
    let dirs: Vec<_> = (0..DISKS)
        .map(|_| tempfile::tempdir().expect("makes a directory"))
        .collect();
    let disk = |dir| file_disk(&image(dir, MIB));
    races(&dirs.iter().map(disk).collect::<Vec<_>>());
}
