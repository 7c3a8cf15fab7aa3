//! The command lines, given to the real qemu.

mod process;
mod world;

use coracle_api::machine::Disk;
use coracle_api::types::{Accelerator, DiskBus};
use serde_json::Value;

use super::super::{PROGRAM, pci};
use super::sample;
use crate::prepare::{FoundDevice, Passed};
use process::Qemu;
use world::World;

/// Whether the machine under test can run `accelerator` at all.
fn available(accelerator: Accelerator) -> bool {
    if !std::path::Path::new(PROGRAM).exists() {
        eprintln!("skipped: there is no {PROGRAM}");
        return false;
    }
    if accelerator == Accelerator::Emulation {
        return true;
    }
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    if let Err(error) = &opened {
        eprintln!("skipped: /dev/kvm cannot be opened: {error}");
    }
    opened.is_ok()
}

#[test]
fn qemu_accepts_every_golden_command_line() {
    let world = World::new();
    for sample in sample::all() {
        if !available(sample.machine.accelerator) {
            continue;
        }
        let (machine, found) = world.with(&sample);
        let mut qemu = Qemu::start(&machine, &found);
        let greeting = qemu.message();
        let negotiated = qemu.execute("qmp_capabilities");
        let status = qemu.execute("query-status");
        let words = qemu.last_words();
        assert!(
            greeting.is_some_and(|greeting| greeting.get("QMP").is_some()) && negotiated.is_some(),
            "{}: {words}",
            sample.name
        );
        let status = status.expect("an answer");
        assert_eq!(status["return"]["status"], "prelaunch", "{}", sample.name);
        // A warning is a mistake of ours as well; the one about more CPUs than
        // the host has is a fact of the machine under test.
        let ours = words
            .lines()
            .filter(|line| !line.contains("recommended cpus"));
        assert_eq!(ours.collect::<Vec<_>>(), [""; 0], "{}", sample.name);
    }
}

#[test]
fn a_network_card_keeps_its_slot_whatever_disks_there_are() {
    if !available(Accelerator::Emulation) {
        return;
    }
    let world = World::new();
    let slots = ["bios-emulation", "many-disks"].map(|name| {
        let mut samples = sample::all().into_iter();
        let sample = samples
            .find(|sample| sample.name == name)
            .expect("a sample");
        let (machine, found) = world.with(&sample);
        let mut qemu = Qemu::start(&machine, &found).negotiate();
        let answer = qemu.execute("query-pci").expect("an answer");
        let devices = answer["return"][0]["devices"]
            .as_array()
            .expect("devices")
            .clone();
        let slot = |id: &str| {
            let device = devices.iter().find(|device| device["qdev_id"] == id)?;
            device["slot"].as_u64()
        };
        (slot("nic0"), slot("disk0"))
    });
    let expected = (u64::try_from(pci::nic(0)).ok(), Some(1));
    assert_eq!(slots, [expected, expected]);
}

/// qemu gets as far as looking for the device, which is not there: it knows
/// the options, and the root port takes them.
#[test]
fn qemu_looks_for_each_device_where_it_is_told() {
    if !available(Accelerator::Emulation) {
        return;
    }
    let mdev = "/sys/bus/mdev/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
    let node = "/dev/bus/usb/255/255";
    for (passed, said) in [
        (
            Passed::Pci {
                host: "ffff:ff:1f.7".into(),
            },
            "vfio /sys/bus/pci/devices/ffff:ff:1f.7: no such host device",
        ),
        (
            Passed::Mdev {
                sysfsdev: mdev.into(),
            },
            mdev,
        ),
        (
            Passed::Usb {
                hostdevice: node.into(),
            },
            "failed to open /dev/bus/usb/255/255",
        ),
    ] {
        let machine = sample::machine(Accelerator::Emulation);
        let mut found = sample::found(&machine);
        found.devices = vec![FoundDevice {
            name: "device".into(),
            passed,
        }];
        let mut qemu = Qemu::start(&machine, &found);
        assert_eq!(qemu.exit_code(), Some(1));
        let words = qemu.last_words();
        assert!(words.contains(said), "{said} is not in: {words}");
    }
}

/// A guest that writes "panicked" to the panic notifier's port.
#[test]
fn a_guest_that_panics_is_told_by_events_and_by_the_exit_code() {
    if !available(Accelerator::Emulation) {
        return;
    }
    let world = World::new();
    let mut machine = sample::machine(Accelerator::Emulation);
    machine.disks = vec![Disk {
        boot_index: Some(1),
        ..sample::disk("root", DiskBus::Virtio)
    }];
    let found = world.boot_sector(
        &machine,
        // mov dx, 0x505; mov al, 1; out dx, al; hlt
        &[0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xf4],
    );
    let mut qemu = Qemu::start(&machine, &found).negotiate();
    qemu.execute("cont");
    let mut events = Vec::new();
    while let Some(message) = qemu.message() {
        events.push(message);
    }
    let event = |name: &str| events.iter().find(|event| event["event"] == name);
    assert!(event("GUEST_PANICKED").is_some(), "{events:?}");
    let shutdown = event("SHUTDOWN").map(|event| event["data"]["reason"].clone());
    assert_eq!(shutdown, Some(Value::from("guest-panic")));
    assert_eq!(qemu.exit_code(), Some(1));
}
