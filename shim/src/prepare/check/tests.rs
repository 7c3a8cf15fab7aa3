//! Each problem, made by breaking one thing of a good machine.

use coracle_api::machine::{BlockSize, CloudInitData, DiskSource};
use coracle_api::types::{Accelerator, CacheMode, DiskBus, InterfaceModel, IoMode};

use super::*;
use crate::qemu::tests::sample;

fn good() -> Machine {
    let mut machine = sample::machine(Accelerator::Kvm);
    let disk = |name, index| Disk {
        boot_index: Some(index),
        ..sample::disk(name, DiskBus::Virtio)
    };
    machine.disks = vec![disk("root", 1), disk("data", 2)];
    machine.interfaces = vec![
        sample::interface(1, InterfaceModel::Virtio),
        sample::interface(2, InterfaceModel::E1000e),
    ];
    machine.firmware = Firmware::Kernel {
        kernel: "/var/lib/coracle/kernel/vmlinuz".into(),
        initrd: Some("/var/lib/coracle/kernel/initrd".into()),
        cmdline: "quiet".into(),
    };
    machine
}

/// The problems of a good machine that `broken` has broken.
fn problems(broken: impl FnOnce(&mut Machine)) -> Vec<Problem> {
    let mut machine = good();
    broken(&mut machine);
    check(&machine)
}

fn one(broken: impl FnOnce(&mut Machine)) -> Problem {
    let mut problems = problems(broken);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[test]
fn a_good_machine_has_no_problem() {
    assert_eq!(check(&good()), []);
}

#[test]
fn names_are_kubernetes_names() {
    assert!(matches!(
        one(|m| m.name = "we b".into()),
        Problem::Name { what: "name", .. }
    ));
    assert!(matches!(
        one(|m| m.namespace = "a,b".into()),
        Problem::Name {
            what: "namespace",
            ..
        }
    ));
}

#[test]
fn cpus_are_counted_and_named() {
    assert!(matches!(
        one(|m| m.cpu.cores = 0),
        Problem::Cpus { cores: 0, .. }
    ));
    assert!(matches!(
        one(|m| m.cpu.sockets = 256),
        Problem::Cpus { sockets: 256, .. }
    ));
    assert!(matches!(
        one(|m| m.cpu.model = Some("max,,id=x".into())),
        Problem::CpuModel { .. }
    ));
    assert_eq!(problems(|m| m.cpu.model = Some("qemu64,-cx16".into())), []);
}

#[test]
fn memory_is_whole_mebibytes() {
    for bytes in [0, 1, (64 << 20) + 4096] {
        assert_eq!(one(|m| m.memory_bytes = bytes), Problem::Memory { bytes });
    }
}

#[test]
fn a_kernel_gets_texts_it_can_read() {
    let with = |kernel: &str, cmdline: String| {
        let firmware = Firmware::Kernel {
            kernel: kernel.into(),
            initrd: None,
            cmdline,
        };
        problems(|m| m.firmware = firmware)
    };
    assert_eq!(with("/k", "x".repeat(2047)), []);
    assert_eq!(
        with("/k", "x".repeat(2048)),
        [Problem::Cmdline { length: 2048 }]
    );
    assert_eq!(
        with("/k\0", String::new()),
        [Problem::Nul {
            what: "kernel's path".into()
        }]
    );
    assert_eq!(
        with("/k", "\0".into()),
        [Problem::Nul {
            what: "kernel's command line".into()
        }]
    );
}

#[test]
fn two_disks_with_one_name_are_told_once_and_by_name() {
    let problem = one(|m| {
        m.disks[1].name = "root".into();
        m.disks.push(sample::disk("root", DiskBus::Scsi));
    });
    assert_eq!(
        problem,
        Problem::SameName {
            kind: "disk",
            name: "root".into()
        }
    );
    assert_eq!(problem.disk(), Some("root"));
    assert_eq!(
        problem.to_string(),
        "two disks have the name \"root\": names are unique in a VM"
    );
}

#[test]
fn two_interfaces_with_one_name() {
    let problem = one(|m| m.interfaces[1].name = "net-1".into());
    assert_eq!(
        problem,
        Problem::SameName {
            kind: "interface",
            name: "net-1".into()
        }
    );
    assert_eq!(problem.disk(), None);
}

#[test]
fn names_of_disks_are_labels() {
    let problem = one(|m| m.disks[0].name = "../etc".into());
    assert_eq!(
        problem,
        Problem::Label {
            kind: "disk",
            value: "../etc".into()
        }
    );
}

#[test]
fn one_place_in_the_boot_order_each_from_1() {
    assert!(matches!(
        one(|m| m.disks[1].boot_index = Some(1)),
        Problem::SameBootIndex { index: 1, .. }
    ));
    assert!(matches!(
        one(|m| m.disks[1].boot_index = Some(0)),
        Problem::Disk {
            source: DiskProblem::BootIndex,
            ..
        }
    ));
}

#[test]
fn disks_have_serials_sectors_and_paths_that_can_be() {
    let disk = |broken: &dyn Fn(&mut Disk)| match one(|m| broken(&mut m.disks[1])) {
        Problem::Disk { disk, source } if disk == "data" => source,
        other => panic!("{other:?}"),
    };
    assert!(matches!(
        disk(&|d| d.serial = "a,b".into()),
        DiskProblem::Serial { .. }
    ));
    for (logical, physical) in [(0, 512), (513, 4096), (4096, 512), (512, 65536)] {
        let size = BlockSize { logical, physical };
        assert_eq!(
            disk(&|d| d.block_size = Some(size)),
            DiskProblem::BlockSize { size }
        );
    }
    assert_eq!(
        disk(&|d| d.source = DiskSource::Block {
            path: "/dev/coracle/\0".into()
        }),
        DiskProblem::Nul
    );
    assert!(matches!(
        disk(&|d| (d.io, d.cache) = (IoMode::Native, CacheMode::Writeback)),
        DiskProblem::Combination(_)
    ));
}

#[test]
fn a_seed_goes_on_every_bus() {
    for bus in [DiskBus::Virtio, DiskBus::Scsi, DiskBus::Sata, DiskBus::Usb] {
        let user_data = CloudInitData::Inline(String::new());
        let source = DiskSource::CloudInit {
            user_data,
            network_data: None,
        };
        let seed = Disk {
            source,
            bus,
            read_only: true,
            ..good().disks[1].clone()
        };
        assert_eq!(problems(|m| m.disks[1] = seed), [], "{bus:?}");
    }
}

#[test]
fn interfaces_have_addresses_of_their_own() {
    assert!(matches!(
        one(|m| m.interfaces[0].mac_address = "01:00:5e:00:00:01".into()),
        Problem::Mac { .. }
    ));
    assert_eq!(
        one(|m| m.interfaces[1].mac_address = "52:54:00:00:00:01".into()),
        Problem::SameMac {
            first: "net-1".into(),
            second: "net-2".into()
        }
    );
}

#[test]
fn buses_are_full_at_some_point() {
    let disks = |bus: DiskBus, count: usize| {
        (0..count)
            .map(move |index| sample::disk(&format!("disk-{index}"), bus))
            .collect::<Vec<_>>()
    };
    for (bus, most) in [
        (DiskBus::Sata, 6),
        (DiskBus::Usb, 15),
        (DiskBus::Virtio, 26),
    ] {
        assert_eq!(problems(|m| m.disks = disks(bus, most)), [], "{bus:?}");
        let problem = one(|m| m.disks = disks(bus, most + 1));
        assert!(
            matches!(problem, Problem::Full { wanted, room, .. } if wanted == most + 1 && room == most),
            "{problem}"
        );
    }
    let interfaces = |count: u8| (0..count).map(|n| sample::interface(n, InterfaceModel::Virtio));
    assert_eq!(problems(|m| m.interfaces = interfaces(9).collect()), []);
    assert!(matches!(
        one(|m| m.interfaces = interfaces(10).collect()),
        Problem::Full {
            what: "interfaces",
            ..
        }
    ));
}

#[test]
fn everything_that_is_wrong_is_told() {
    let problems = problems(|m| {
        m.memory_bytes = 1;
        m.cpu.cores = 0;
        m.disks[0].serial = String::new();
        m.interfaces[0].mac_address = String::new();
    });
    assert_eq!(problems.len(), 4, "{problems:?}");
}
