//! No text of a manifest becomes an option: the shape of a command line, all
//! values taken out, is the same whatever the texts say.

use coracle_api::machine::{Disk, DiskSource, Firmware, Machine};
use coracle_api::types::{Accelerator, CacheMode, DiskBus, InterfaceModel, IoMode};
use proptest::prelude::*;
use serde_json::Value;

use super::super::{Descriptors, command};
use super::goldens::SOCKETS;
use super::sample;

/// Switches without a value.
const BARE: [&str; 3] = ["-no-user-config", "-nodefaults", "-S"];
/// Switches whose value qemu does not take apart.
const WHOLE: [&str; 5] = ["-kernel", "-initrd", "-append", "-uuid", "-cpu"];

/// Each switch with the keys of its value, at every depth.
fn shape(arguments: &[String]) -> Vec<(String, Vec<String>)> {
    let mut shape = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(switch) = arguments.next() {
        assert!(switch.starts_with('-'), "{switch:?} is not a switch");
        let keys = if BARE.contains(&switch.as_str()) {
            vec![]
        } else {
            let value = arguments.next().expect("a value");
            if WHOLE.contains(&switch.as_str()) {
                vec![]
            } else {
                keys(value)
            }
        };
        shape.push((switch.clone(), keys));
    }
    shape
}

fn keys(value: &str) -> Vec<String> {
    if value.starts_with('{') {
        let value: Value = serde_json::from_str(value).expect("JSON");
        return json_keys(&value);
    }
    // As qemu does: a doubled comma is one of the value, a single one ends it.
    let parts = value.replace(",,", "\u{0}");
    parts
        .split(',')
        .map(|part| part.split('=').next().unwrap_or(part).to_owned())
        .collect()
}

fn json_keys(value: &Value) -> Vec<String> {
    let Value::Object(object) = value else {
        return vec![];
    };
    object
        .iter()
        .flat_map(|(key, value)| std::iter::once(key.clone()).chain(json_keys(value)))
        .collect()
}

fn render(machine: &Machine) -> Vec<String> {
    command(machine, &sample::found(machine), &SOCKETS)
}

/// Texts with everything in them that means something to qemu.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z,=:{}\"\\\\ \n./-]{1,30}",
        Just(",readonly=on,id=x".to_owned()),
        Just("a,,b".to_owned()),
        Just("\"},{\"driver\":\"x\"".to_owned()),
        "\\PC{1,30}",
    ]
}

#[derive(Clone, Debug)]
struct Texts {
    name: String,
    cmdline: String,
    kernel: String,
    disks: Vec<(DiskBus, String, String, bool)>,
    macs: Vec<String>,
}

fn bus() -> impl Strategy<Value = DiskBus> {
    prop_oneof![
        Just(DiskBus::Virtio),
        Just(DiskBus::Scsi),
        Just(DiskBus::Sata),
        Just(DiskBus::Usb)
    ]
}

fn texts() -> impl Strategy<Value = Texts> {
    let disks = proptest::collection::vec((bus(), text(), text(), any::<bool>()), 0..5);
    let macs = proptest::collection::vec(text(), 0..3);
    // Short: a name that no host can have is not told to the guest at all.
    ("[a-z,=\"{}]{1,60}", text(), text(), disks, macs).prop_map(
        |(name, cmdline, kernel, disks, macs)| Texts {
            name,
            cmdline,
            kernel,
            disks,
            macs,
        },
    )
}

/// The machine with the texts of `texts`, or with harmless ones.
fn machine(texts: &Texts, accelerator: Accelerator, harmless: bool) -> Machine {
    let say = |text: &str| {
        if harmless {
            "harmless".to_owned()
        } else {
            text.to_owned()
        }
    };
    let disk = |(bus, path, serial, file): &(DiskBus, String, String, bool)| {
        let path = say(path);
        let source = if *file {
            DiskSource::File {
                path,
                create_bytes: None,
            }
        } else {
            DiskSource::Block { path }
        };
        Disk {
            source,
            serial: say(serial),
            ..sample::disk(&say(serial), *bus)
        }
    };
    let mut machine = sample::machine(accelerator);
    machine.name = say(&texts.name);
    machine.namespace = say(&texts.name);
    machine.firmware = Firmware::Kernel {
        kernel: say(&texts.kernel),
        initrd: None,
        cmdline: say(&texts.cmdline),
    };
    machine.disks = texts.disks.iter().map(disk).collect();
    machine.interfaces = vec![sample::interface(0, InterfaceModel::Virtio); texts.macs.len()];
    for (interface, mac) in machine.interfaces.iter_mut().zip(&texts.macs) {
        interface.mac_address = say(mac);
    }
    machine
}

proptest! {
    #[test]
    fn no_text_changes_the_shape(texts in texts(), kvm in any::<bool>()) {
        let accelerator = if kvm { Accelerator::Kvm } else { Accelerator::Emulation };
        let odd = render(&machine(&texts, accelerator, false));
        let plain = render(&machine(&texts, accelerator, true));
        prop_assert_eq!(shape(&odd), shape(&plain));
    }

    #[test]
    fn no_numbers_make_it_panic(
        counts in (any::<u32>(), any::<u32>(), any::<u32>()),
        memory_bytes in any::<u64>(),
        uid in proptest::option::of(text()),
        model in proptest::option::of(text()),
        queues in proptest::option::of(any::<u16>()),
        boot_index in proptest::option::of(any::<u32>()),
        direct in any::<bool>(),
        sockets in (any::<i32>(), any::<i32>()),
    ) {
        let mut machine = sample::machine(Accelerator::Kvm);
        (machine.cpu.sockets, machine.cpu.cores, machine.cpu.threads) = counts;
        (machine.memory_bytes, machine.uid, machine.cpu.model) = (memory_bytes, uid, model);
        let cache = if direct { CacheMode::None } else { CacheMode::Writeback };
        let disk = sample::disk("root", DiskBus::Virtio);
        machine.disks = vec![Disk { queues, boot_index, cache, io: IoMode::Auto, ..disk }];
        let sockets = Descriptors { qmp: sockets.0, serial: sockets.1 };
        let arguments = command(&machine, &sample::found(&machine), &sockets);
        prop_assert!(!arguments.is_empty());
    }
}
