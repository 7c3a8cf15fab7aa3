//! Machines to test with.

use coracle_api::machine::{
    BlockSize, CloudInitData, Cpu, Device, Disk, DiskSource, Firmware, Interface, MACHINE_VERSION,
    Machine,
};
use coracle_api::types::{
    Accelerator, Binding, CacheMode, DetectZeroes, DiscardMode, DiskBus, DiskType, ErrorPolicy,
    InterfaceModel, IoMode,
};

use crate::prepare::{Found, FoundDevice, Passed};

mod found;

pub(crate) use found::found;

/// A machine and what was found for it.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) machine: Machine,
    pub(crate) found: Found,
}

/// One CPU, 256 MiB, firmware, nothing else.
pub(crate) fn machine(accelerator: Accelerator) -> Machine {
    Machine {
        version: MACHINE_VERSION,
        name: "web".into(),
        namespace: "shop".into(),
        uid: Some("6ba7b810-9dad-11d1-80b4-00c04fd430c8".into()),
        accelerator,
        cpu: Cpu {
            sockets: 1,
            cores: 1,
            threads: 1,
            model: None,
        },
        memory_bytes: 256 << 20,
        firmware: Firmware::Bios {},
        disks: vec![],
        interfaces: vec![],
        devices: vec![],
        shutdown_seconds: 55,
    }
}

/// A disk on a block device.
pub(crate) fn disk(name: &str, bus: DiskBus) -> Disk {
    Disk {
        name: name.into(),
        source: DiskSource::Block {
            path: format!("/dev/coracle/{name}"),
        },
        bus,
        disk_type: DiskType::Disk,
        cache: CacheMode::None,
        io: IoMode::Auto,
        discard: DiscardMode::Unmap,
        detect_zeroes: DetectZeroes::Ignore,
        error_policy: ErrorPolicy::Stop,
        read_only: false,
        shareable: false,
        serial: name.into(),
        boot_index: None,
        iothread: false,
        queues: None,
        block_size: None,
        throttle: None,
    }
}

pub(crate) fn interface(index: u8, model: InterfaceModel) -> Interface {
    Interface {
        name: format!("net-{index}"),
        binding: Binding::Slirp,
        model,
        mac_address: format!("52:54:00:00:00:{index:02x}"),
    }
}

fn sample(name: &'static str, machine: Machine) -> Sample {
    let found = found(&machine);
    Sample {
        name,
        machine,
        found,
    }
}

fn boot(disk: Disk) -> Disk {
    Disk {
        boot_index: Some(1),
        ..disk
    }
}

/// Every combination we ship, each with its name.
pub(crate) fn all() -> Vec<Sample> {
    let (kvm, emulation) = (Accelerator::Kvm, Accelerator::Emulation);
    vec![
        sample("bios-kvm", bios(kvm)),
        sample("bios-emulation", bios(emulation)),
        without_arch_capabilities(),
        sample("kernel-kvm", kernel(kvm)),
        sample("kernel-emulation", kernel(emulation)),
        sample(
            "bare",
            Machine {
                uid: None,
                ..machine(emulation)
            },
        ),
        buses(),
        sample("sources", sources()),
        sample("policies", policies()),
        sample("odd-texts", odd_texts()),
        sample("many-disks", many_disks()),
        sample("every-place-taken", every_place_taken()),
        devices(),
    ]
}

fn without_arch_capabilities() -> Sample {
    let mut sample = sample("no-arch-capabilities", bios(Accelerator::Kvm));
    sample.found.arch_capabilities = false;
    sample
}

fn bios(accelerator: Accelerator) -> Machine {
    Machine {
        cpu: Cpu {
            sockets: 1,
            cores: 2,
            threads: 1,
            model: None,
        },
        disks: vec![boot(disk("root", DiskBus::Virtio))],
        interfaces: vec![interface(1, InterfaceModel::Virtio)],
        ..machine(accelerator)
    }
}

fn kernel(accelerator: Accelerator) -> Machine {
    let kernel = "/var/lib/coracle/kernel/vmlinuz".to_owned();
    let initrd = (accelerator == Accelerator::Emulation)
        .then(|| "/var/lib/coracle/kernel/initrd.img".to_owned());
    let cmdline = initrd
        .as_ref()
        .map_or_else(String::new, |_| "console=ttyS0 quiet".into());
    Machine {
        firmware: Firmware::Kernel {
            kernel,
            initrd,
            cmdline,
        },
        ..machine(accelerator)
    }
}

fn buses() -> Sample {
    let disks = [
        ("v", DiskBus::Virtio),
        ("a1", DiskBus::Sata),
        ("s", DiskBus::Scsi),
        ("a2", DiskBus::Sata),
        ("u", DiskBus::Usb),
    ];
    let mut sample = sample(
        "buses",
        Machine {
            disks: disks.map(|(name, bus)| disk(name, bus)).into(),
            ..machine(Accelerator::Emulation)
        },
    );
    for found in &mut sample.found.disks {
        found.facts.rotational = Some(false);
        found.facts.physical_block_size = 4096;
    }
    sample
}

fn sources() -> Machine {
    let data = CloudInitData::Inline("#cloud-config\n".into());
    let of = |name: &str, source| Disk {
        source,
        ..disk(name, DiskBus::Virtio)
    };
    let path = |name: &str| format!("/var/lib/coracle/{name}/disk.img");
    Machine {
        disks: vec![
            boot(disk("block", DiskBus::Virtio)),
            of(
                "file",
                DiskSource::File {
                    path: path("disks/file"),
                    create_bytes: None,
                },
            ),
            of(
                "scratch",
                DiskSource::Ephemeral {
                    path: path("ephemeral/scratch"),
                    size_bytes: 1 << 20,
                },
            ),
            of(
                "image",
                DiskSource::Image {
                    root: path("images/image"),
                    path: None,
                    overlay: Some("/var/lib/coracle/ephemeral/image".into()),
                    size_bytes: None,
                },
            ),
            of(
                "seed",
                DiskSource::CloudInit {
                    user_data: data,
                    network_data: None,
                },
            ),
        ],
        ..machine(Accelerator::Emulation)
    }
}

fn policies() -> Machine {
    let virtio = |name| disk(name, DiskBus::Virtio);
    Machine {
        cpu: Cpu {
            sockets: 2,
            cores: 2,
            threads: 1,
            model: Some("qemu64,-cx16".into()),
        },
        disks: vec![
            Disk {
                cache: CacheMode::Writeback,
                io: IoMode::IoUring,
                error_policy: ErrorPolicy::Enospc,
                ..virtio("writeback")
            },
            Disk {
                cache: CacheMode::Writethrough,
                discard: DiscardMode::Ignore,
                error_policy: ErrorPolicy::Report,
                ..virtio("writethrough")
            },
            Disk {
                io: IoMode::Native,
                iothread: true,
                queues: Some(4),
                error_policy: ErrorPolicy::Ignore,
                ..virtio("fast")
            },
            Disk {
                read_only: true,
                shareable: true,
                ..virtio("shared")
            },
            Disk {
                block_size: Some(BlockSize {
                    logical: 4096,
                    physical: 4096,
                }),
                ..disk("large-sectors", DiskBus::Scsi)
            },
        ],
        ..machine(Accelerator::Emulation)
    }
}

fn odd_texts() -> Machine {
    let path = "/var/lib/coracle/disks/a,b=c \"d\" {e}/disk.img".to_owned();
    Machine {
        firmware: Firmware::Kernel {
            kernel: "/var/lib/coracle/kernel/a,b=c".into(),
            initrd: None,
            cmdline: "console=ttyS0,115200 -- -device \"x\"".into(),
        },
        disks: vec![Disk {
            source: DiskSource::File {
                path,
                create_bytes: None,
            },
            serial: "A.b_c+d-1".into(),
            ..disk("odd", DiskBus::Virtio)
        }],
        ..machine(Accelerator::Emulation)
    }
}

/// A GPU with its sound function, seven virtual functions, a part of a card,
/// and a key.
fn devices() -> Sample {
    let pci = |host: String| Passed::Pci { host };
    let mut passed = vec![pci("0000:3b:00.0".into()), pci("0000:3b:00.1".into())];
    passed.push(Passed::Usb {
        hostdevice: "/dev/bus/usb/001/007".into(),
    });
    passed.extend((0..7).map(|function| pci(format!("0000:5e:02.{function}"))));
    passed.push(Passed::Mdev {
        sysfsdev: "/sys/bus/mdev/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001".into(),
    });
    let names = (0..passed.len()).map(|index| format!("device-{index}"));
    let found: Vec<FoundDevice> = names
        .zip(passed)
        .map(|(name, passed)| FoundDevice { name, passed })
        .collect();
    let device = |found: &FoundDevice| Device {
        name: found.name.clone(),
        resource: "example.com/device".into(),
    };
    let devices = found.iter().map(device).collect();
    let machine = Machine {
        devices,
        ..bios(Accelerator::Kvm)
    };
    let mut sample = sample("devices", machine);
    sample.found.devices = found;
    sample
}

fn many_disks() -> Machine {
    let one = |index: u32| Disk {
        boot_index: Some(index + 1),
        iothread: index.is_multiple_of(2),
        ..disk(&format!("disk-{index}"), DiskBus::Virtio)
    };
    Machine {
        disks: (0..20).map(one).collect(),
        interfaces: vec![
            interface(1, InterfaceModel::Virtio),
            interface(2, InterfaceModel::E1000e),
            interface(3, InterfaceModel::Virtio),
            interface(4, InterfaceModel::E1000e),
        ],
        ..machine(Accelerator::Emulation)
    }
}

/// As many devices as `prepare` lets pass.
fn every_place_taken() -> Machine {
    let on = |bus: DiskBus, count: usize| {
        (0..count).map(move |index| disk(&format!("{bus:?}-{index}").to_lowercase(), bus))
    };
    let mut machine = Machine {
        interfaces: (0..9)
            .map(|index| interface(index, InterfaceModel::E1000e))
            .collect(),
        ..machine(Accelerator::Emulation)
    };
    machine.disks.extend(on(DiskBus::Sata, 6));
    machine.disks.extend(on(DiskBus::Usb, 15));
    machine.disks.extend(on(DiskBus::Scsi, 3));
    machine.disks.extend(on(DiskBus::Virtio, 30 - 2 - 2 - 9));
    machine
}
