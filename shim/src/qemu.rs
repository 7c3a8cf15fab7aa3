//! qemu's command line: a pure function of the machine description and of what
//! was found in the pod.
//!
//! One struct per switch, its fields spelled as qemu spells them; `Switch`
//! renders them. Nothing here looks at the world, and nothing here can fail:
//! what can be wrong is found by [`crate::prepare`]. What comes from a manifest
//! goes into JSON or has its commas doubled, so that a value is never read as
//! another option. Tried with qemu 7.2. Implements design §5.

mod chardev;
pub(crate) mod device;
mod disk;
mod firmware;
mod identity;
mod machine;
mod netdev;
mod object;
mod passthrough;
pub(crate) mod pci;
mod policy;
mod switch;

use std::os::fd::RawFd;

use coracle_api::machine::{self as api, Firmware};
use coracle_api::types::DiskBus;

use crate::prepare::Found;
use chardev::{Chardev, Mon};
use device::Device;
use firmware::{Append, Initrd, Kernel};
use identity::{Name, Smbios, Uuid};
use machine::{Accel, Cpu, Machine, Memory, Smp};
use netdev::Netdev;
use object::Object;
use policy::{Action, Boot, Flag, Global, Rtc, Sandbox};
use switch::Arguments;

/// Where qemu is in the VM image. It finds its modules relative to itself.
pub const PROGRAM: &str = "/usr/bin/qemu-system-x86_64";

/// Connected stream sockets that qemu inherits, by their numbers in qemu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The monitor's: QMP.
    pub qmp: RawFd,
    /// The guest's first serial port.
    pub serial: RawFd,
}

/// qemu's arguments, without the program's name. The guest's CPUs are stopped
/// until QMP says `cont`.
#[must_use]
pub fn command(machine: &api::Machine, found: &Found, sockets: &Descriptors) -> Vec<String> {
    let mut arguments = Arguments::default();
    process(machine, &mut arguments);
    board(machine, found.arch_capabilities, &mut arguments);
    monitor(*sockets, &mut arguments);
    firmware(&machine.firmware, &mut arguments);
    platform(machine, found, &mut arguments);
    // Before the disks, which take the slots that are left.
    interfaces(machine, &mut arguments);
    passthrough::add(found, &mut arguments);
    disks(machine, found, &mut arguments);
    arguments.into_vec()
}

/// What qemu is as a process.
fn process(machine: &api::Machine, arguments: &mut Arguments) {
    arguments.add(&Name {
        guest: machine.id(),
        debug_threads: true,
    });
    arguments.add(&Flag::NoUserConfig);
    arguments.add(&Flag::NoDefaults);
    arguments.add(&Sandbox::STRICT);
    arguments.add(&Flag::Stopped);
}

/// The chipset, the CPUs and the memory.
fn board(machine: &api::Machine, arch_capabilities: bool, arguments: &mut Arguments) {
    let accelerator = machine.accelerator;
    arguments.add(&Machine::q35(accelerator));
    arguments.add(&Accel::of(accelerator));
    let model = machine.cpu.model.as_deref();
    arguments.add(&Cpu::of(accelerator, model, arch_capabilities));
    arguments.add(&Smp::of(&machine.cpu, accelerator));
    arguments.add(&Memory::of(machine.memory_bytes));
    arguments.add(&Object::memory(machine.memory_bytes));
    if let Some(uuid) = Uuid::of(machine.uid.as_deref()) {
        arguments.add(&uuid);
    }
    arguments.add(&Smbios::SYSTEM);
    arguments.add(&Flag::NoDisplay);
    arguments.add(&Flag::NoVga);
    arguments.add(&Rtc::of(accelerator));
    for global in Global::of(accelerator) {
        arguments.add(global);
    }
    arguments.add(&Action::POLICY);
}

/// The two sockets to the shim.
fn monitor(sockets: Descriptors, arguments: &mut Arguments) {
    arguments.add(&Chardev::socket("qmp0", sockets.qmp));
    arguments.add(&Mon::control("qmp0"));
    arguments.add(&Chardev::socket("serial0", sockets.serial));
    arguments.add(&Device::serial("serial0"));
}

/// What runs first.
fn firmware(firmware: &Firmware, arguments: &mut Arguments) {
    arguments.add(&Boot::STRICT);
    let Firmware::Kernel {
        kernel,
        initrd,
        cmdline,
    } = firmware
    else {
        return;
    };
    arguments.add(&Kernel(kernel.clone()));
    if let Some(initrd) = initrd {
        arguments.add(&Initrd(initrd.clone()));
    }
    if !cmdline.is_empty() {
        arguments.add(&Append(cmdline.clone()));
    }
}

/// The devices that every VM has, and the controllers that the others need.
fn platform(machine: &api::Machine, found: &Found, arguments: &mut Arguments) {
    arguments.add(&Device::Pvpanic);
    arguments.add(&Device::rng());
    arguments.add(&Device::balloon());
    if pci::needs(machine, DiskBus::Scsi) {
        arguments.add(&Device::scsi());
    }
    if pci::needs(machine, DiskBus::Usb) || passthrough::needs_usb(found) {
        arguments.add(&Device::usb());
    }
}

fn disks(machine: &api::Machine, found: &Found, arguments: &mut Arguments) {
    for disk in disk::all(machine, found) {
        if let Some(iothread) = &disk.iothread {
            arguments.add(iothread);
        }
        arguments.extend(disk.options.to_arguments());
    }
}

fn interfaces(machine: &api::Machine, arguments: &mut Arguments) {
    for (index, interface) in machine.interfaces.iter().enumerate() {
        arguments.add(&Netdev::of(index, interface, &machine.name));
        arguments.add(&Device::nic(index, interface));
    }
}

#[cfg(test)]
pub(crate) mod tests;
