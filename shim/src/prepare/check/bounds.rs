//! How much of everything fits into a q35 machine.

use coracle_api::machine::Machine;
use coracle_api::types::DiskBus;
use coracle_block::qemu::SATA_PORTS;

use super::Problem;
use crate::qemu::device::USB_PORTS;
use crate::qemu::pci;

/// The unit of memory.
pub(super) const MIB: u64 = 1 << 20;
/// What a Linux kernel on x86 reads of its command line (`COMMAND_LINE_SIZE`
/// is 2048 with the terminating zero).
pub(super) const CMDLINE_MAX: usize = 2047;

/// The highest id that an APIC without interrupt remapping can be addressed
/// by; 255 is the broadcast.
const APIC_ID_MAX: u32 = 254;

/// The highest APIC id of a topology; `None` when there is no such topology.
///
/// An id is built from bit fields, each as wide as its level needs, so counts
/// that are no powers of two leave gaps.
pub(super) fn highest_apic_id(sockets: u32, cores: u32, threads: u32) -> Option<u32> {
    let last = |count: u32| count.checked_sub(1).filter(|last| *last <= APIC_ID_MAX);
    let width = |last: u32| u32::BITS - last.leading_zeros();
    let (socket, core, thread) = (last(sockets)?, last(cores)?, last(threads)?);
    // Three numbers of at most 8 bits each: no shift overflows.
    let id = (socket << (width(core) + width(thread))) | (core << width(thread)) | thread;
    (id <= APIC_ID_MAX).then_some(id)
}

/// Adds a problem for every bus that has too few places.
pub(super) fn rooms(machine: &Machine, problems: &mut Vec<Problem>) {
    let on = |bus: DiskBus| machine.disks.iter().filter(|disk| disk.bus == bus).count();
    let mut room = |what, wanted, room, instead| {
        if wanted > room {
            problems.push(Problem::Full {
                what,
                wanted,
                room,
                instead,
            });
        }
    };
    room(
        "disks on the bus Sata",
        on(DiskBus::Sata),
        SATA_PORTS,
        "put further disks on the bus Scsi",
    );
    room(
        "disks on the bus Usb and devices",
        on(DiskBus::Usb) + machine.devices.len(),
        USB_PORTS,
        "put further disks on the bus Scsi",
    );
    room(
        "devices",
        machine.devices.len(),
        pci::PORTS_MAX,
        "use fewer",
    );
    room(
        "interfaces",
        machine.interfaces.len(),
        pci::NICS_MAX,
        "use fewer",
    );
    room(
        "disks on the bus Virtio",
        on(DiskBus::Virtio),
        pci::slots_for_disks(machine),
        "put further disks on the bus Scsi",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line was tried with qemu 7.2, which starts or says "requires
    /// kernel irqchip and X2APIC API support".
    #[test]
    fn topologies() {
        for (sockets, cores, threads, id) in [
            (1, 1, 1, Some(0)),
            (1, 2, 1, Some(1)),
            (2, 4, 2, Some(15)),
            (255, 1, 1, Some(254)),
            (15, 15, 1, Some(238)),
            (256, 1, 1, None),
            (80, 3, 1, None),
            (85, 3, 1, None),
            (0, 1, 1, None),
            (1, 0, 1, None),
            (1, 1, 0, None),
            (u32::MAX, u32::MAX, u32::MAX, None),
        ] {
            assert_eq!(
                highest_apic_id(sockets, cores, threads),
                id,
                "{sockets} {cores} {threads}"
            );
        }
    }
}
