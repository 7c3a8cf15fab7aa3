//! What can be told about a machine description by reading it.
//!
//! The controller never writes such a description; this guards the shim
//! against an annotation that something else wrote, and qemu against values
//! it would misread. Pure: no file is looked at. All problems are reported,
//! in the description's order, so that one round mends them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coracle_api::machine::{Cpu, Device, Disk, Firmware, Interface, Machine};

mod bounds;
mod disk;
mod text;

use bounds::{MIB, highest_apic_id};
pub use disk::DiskProblem;

/// One thing that is wrong with a machine description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The VM's name or namespace is no Kubernetes name.
    #[error("the {what} {value:?} is not a name that Kubernetes allows")]
    Name {
        /// `name` or `namespace`.
        what: &'static str,
        /// What it says.
        value: String,
    },
    /// There are no virtual CPUs, or more than the chipset can address.
    #[error(
        "{sockets} sockets of {cores} cores of {threads} threads cannot be: each is at least 1, \
         and the chipset addresses 255 virtual CPUs, fewer when cores or threads are no power \
         of two"
    )]
    Cpus {
        /// Sockets.
        sockets: u32,
        /// Cores per socket.
        cores: u32,
        /// Threads per core.
        threads: u32,
    },
    /// The CPU model is no model that qemu could know.
    #[error(
        "the CPU model {value:?} is not a model with features, such as `max` or `qemu64,-cx16`"
    )]
    CpuModel {
        /// What it says.
        value: String,
    },
    /// The memory is not a whole number of MiB.
    #[error("{bytes} bytes of memory are not a multiple of 1 MiB above zero")]
    Memory {
        /// What it says.
        bytes: u64,
    },
    /// A file of a direct kernel boot is not what it should be.
    #[error("the {what} {} {why}: it must be a file in the volume the VM's `firmware` names",
        path.display())]
    Boot {
        /// `kernel` or `initrd`.
        what: &'static str,
        /// Its path in the pod.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The kernel's command line is longer than a kernel reads.
    #[error("the kernel's command line has {length} bytes; a kernel reads 2047 at most")]
    Cmdline {
        /// Its length.
        length: usize,
    },
    /// A text holds the character no program argument can.
    #[error("the {what} holds a NUL character")]
    Nul {
        /// Which text.
        what: String,
    },
    /// Two of a kind have one name.
    #[error("two {kind}s have the name \"{name}\": names are unique in a VM")]
    SameName {
        /// `disk`, `interface` or `device`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A disk, an interface or a device has no usable name.
    #[error("the {kind} name {value:?} is not a DNS label of at most 50 characters")]
    Label {
        /// `disk`, `interface` or `device`.
        kind: &'static str,
        /// What it says.
        value: String,
    },
    /// Two disks want the same place in the boot order.
    #[error("the disks \"{first}\" and \"{second}\" both have the boot index {index}")]
    SameBootIndex {
        /// The disk that has it first.
        first: String,
        /// The disk that has it as well.
        second: String,
        /// The boot index.
        index: u32,
    },
    /// Something about one disk.
    #[error("disk \"{disk}\": {source}")]
    Disk {
        /// Name of the disk.
        disk: String,
        /// What is wrong with it.
        source: DiskProblem,
    },
    /// A MAC address that is none, or is a group's.
    #[error(
        "interface \"{interface}\": {value:?} is not a MAC address of one card: six bytes in \
         hexadecimal with colons, the first one even"
    )]
    Mac {
        /// Name of the interface.
        interface: String,
        /// What it says.
        value: String,
    },
    /// Two interfaces have one MAC address.
    #[error("the interfaces \"{first}\" and \"{second}\" have the same MAC address")]
    SameMac {
        /// The interface that has it first.
        first: String,
        /// The interface that has it as well.
        second: String,
    },
    /// There are more devices than a bus has places.
    #[error("{wanted} {what} do not fit: there is room for {room}; {instead}")]
    Full {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        wanted: usize,
        /// How many fit.
        room: usize,
        /// What to do instead.
        instead: &'static str,
    },
}

impl Problem {
    /// The disk it is about.
    #[must_use]
    pub fn disk(&self) -> Option<&str> {
        match self {
            Self::Disk { disk, .. } => Some(disk),
            Self::SameBootIndex { second, .. } => Some(second),
            Self::SameName { kind: "disk", name }
            | Self::Label {
                kind: "disk",
                value: name,
            } => Some(name),
            _ => None,
        }
    }
}

/// Everything that is wrong with `machine`; empty when it can be tried.
#[must_use]
pub fn check(machine: &Machine) -> Vec<Problem> {
    let mut problems = Vec::new();
    names(machine, &mut problems);
    cpu(&machine.cpu, &mut problems);
    if machine.memory_bytes == 0 || !machine.memory_bytes.is_multiple_of(MIB) {
        problems.push(Problem::Memory {
            bytes: machine.memory_bytes,
        });
    }
    firmware(&machine.firmware, &mut problems);
    disks(&machine.disks, &mut problems);
    interfaces(&machine.interfaces, &mut problems);
    devices(&machine.devices, &mut problems);
    bounds::rooms(machine, &mut problems);
    problems
}

fn names(machine: &Machine, problems: &mut Vec<Problem>) {
    for (what, value) in [("name", &machine.name), ("namespace", &machine.namespace)] {
        if !text::is_subdomain(value) {
            problems.push(Problem::Name {
                what,
                value: value.clone(),
            });
        }
    }
}

fn cpu(cpu: &Cpu, problems: &mut Vec<Problem>) {
    let Cpu {
        sockets,
        cores,
        threads,
        model,
    } = cpu;
    if highest_apic_id(*sockets, *cores, *threads).is_none() {
        problems.push(Problem::Cpus {
            sockets: *sockets,
            cores: *cores,
            threads: *threads,
        });
    }
    if let Some(value) = model.as_ref().filter(|model| !text::is_cpu_model(model)) {
        problems.push(Problem::CpuModel {
            value: value.clone(),
        });
    }
}

fn firmware(firmware: &Firmware, problems: &mut Vec<Problem>) {
    let Firmware::Kernel {
        kernel,
        initrd,
        cmdline,
    } = firmware
    else {
        return;
    };
    let texts = [
        ("kernel's path", Some(kernel)),
        ("initrd's path", initrd.as_ref()),
        ("kernel's command line", Some(cmdline)),
    ];
    for (what, value) in texts {
        if value.is_some_and(|value| value.contains('\0')) {
            problems.push(Problem::Nul {
                what: what.to_owned(),
            });
        }
    }
    if cmdline.len() > bounds::CMDLINE_MAX {
        problems.push(Problem::Cmdline {
            length: cmdline.len(),
        });
    }
}

fn disks(disks: &[Disk], problems: &mut Vec<Problem>) {
    labels(
        "disk",
        disks.iter().map(|disk| disk.name.as_str()),
        problems,
    );
    let mut order: BTreeMap<u32, &str> = BTreeMap::new();
    for disk in disks {
        problems.extend(disk::check(disk).into_iter().map(|source| Problem::Disk {
            disk: disk.name.clone(),
            source,
        }));
        let Some(index) = disk.boot_index else {
            continue;
        };
        if let Some(first) = order.insert(index, &disk.name) {
            problems.push(Problem::SameBootIndex {
                first: first.to_owned(),
                second: disk.name.clone(),
                index,
            });
        }
    }
}

fn interfaces(interfaces: &[Interface], problems: &mut Vec<Problem>) {
    labels(
        "interface",
        interfaces.iter().map(|card| card.name.as_str()),
        problems,
    );
    let mut seen: BTreeMap<[u8; 6], &str> = BTreeMap::new();
    for card in interfaces {
        match text::mac(&card.mac_address) {
            None => problems.push(Problem::Mac {
                interface: card.name.clone(),
                value: card.mac_address.clone(),
            }),
            Some(mac) => {
                if let Some(first) = seen.insert(mac, &card.name) {
                    problems.push(Problem::SameMac {
                        first: first.to_owned(),
                        second: card.name.clone(),
                    });
                }
            }
        }
    }
}

fn devices(devices: &[Device], problems: &mut Vec<Problem>) {
    labels(
        "device",
        devices.iter().map(|device| device.name.as_str()),
        problems,
    );
}

/// Names that are labels, each once.
fn labels<'a>(
    kind: &'static str,
    names: impl Iterator<Item = &'a str>,
    problems: &mut Vec<Problem>,
) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        if !text::is_label(name) {
            problems.push(Problem::Label {
                kind,
                value: name.to_owned(),
            });
        }
        let count = counts.entry(name).or_default();
        *count += 1;
        if *count == 2 {
            problems.push(Problem::SameName {
                kind,
                name: name.to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
