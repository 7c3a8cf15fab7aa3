//! Two VMs, each with a real qemu, that want one device at the same moment.

use std::process::Output;

use coracle_api::{machine::DiskSource, report::TerminationReason as Reason};

use crate::{
    bench::{Bench, has_qemu},
    devices::Loop,
    disks::direct,
};

const RACES: usize = 50;
/// Said when qemu has opened its disks.
const HAS_IT: &str = "qemu is ready";

#[test]
fn of_two_vms_that_start_at_once_only_one_gets_as_far_as_qemu() {
    if !has_qemu() {
        return;
    }
    let mut benches = [Bench::new("power-button"), Bench::new("power-button")];
    let Some(device) = Loop::new(&benches[0].path("disk.img")) else {
        return;
    };
    for bench in &mut benches {
        bench.machine.disks[0].source = DiskSource::Block {
            path: device.path().to_owned(),
        };
        direct(&mut bench.machine.disks[0]);
        bench.write_machine();
    }
    let mut won = [0; 2];
    for race in 0..RACES {
        // Neither has a head start every time.
        let order = if race % 2 == 0 { [0, 1] } else { [1, 0] };
        let mut shims = order.map(|index| (index, benches[index].run()));
        shims.sort_by_key(|(index, _)| *index);
        let has_it = [0, 1].map(|index| shims[index].1.says(HAS_IT));
        assert_ne!(has_it[0], has_it[1], "race {race}");
        for ((index, shim), has_it) in shims.into_iter().zip(has_it) {
            let bench = &benches[index];
            if has_it {
                won[index] += 1;
                let Output { status, .. } = bench.call(&["kill", "KILL"]);
                assert!(status.success());
                shim.end().assert_code(0);
            } else {
                shim.end().assert_code(3);
                assert_eq!(bench.termination().reason, Reason::DiskBusy);
            }
        }
    }
    eprintln!("of {RACES} races the VMs won {won:?}");
}
