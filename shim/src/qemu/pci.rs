//! Who sits where on the PCI bus.
//!
//! A guest names its network cards by their slots, so a slot must not depend
//! on what else the VM has: adding a disk must not cost the guest its network.
//! Everything but the disks has a fixed slot; the virtio disks get the free
//! ones from qemu, lowest first, in the manifest's order. Slot 0 is the host
//! bridge, 31 the chipset's ISA bridge, AHCI and `SMBus`.

use coracle_api::machine::Machine;
use coracle_api::types::DiskBus;

/// The first network card; the others follow.
const NIC: usize = 0x10;
/// The SCSI controller, when a disk needs it.
pub(super) const SCSI: usize = 0x1b;
/// The USB controller, when a disk needs it.
pub(super) const USB: usize = 0x1c;
/// The memory balloon.
pub(super) const BALLOON: usize = 0x1d;
/// The entropy source.
pub(super) const RNG: usize = 0x1e;

/// How many network cards have a slot.
pub(crate) const NICS_MAX: usize = SCSI - NIC;
/// Slots 1 to 30.
const SLOTS: usize = 30;

/// The slot of a network card.
pub(super) fn nic(index: usize) -> usize {
    NIC + index
}

/// Whether a disk of this machine sits on `bus`.
pub(super) fn needs(machine: &Machine, bus: DiskBus) -> bool {
    machine.disks.iter().any(|disk| disk.bus == bus)
}

/// How many virtio disks find a slot beside everything else.
pub(crate) fn slots_for_disks(machine: &Machine) -> usize {
    let controllers = [DiskBus::Scsi, DiskBus::Usb]
        .iter()
        .filter(|bus| needs(machine, **bus))
        .count();
    // The balloon and the entropy source are always there.
    SLOTS.saturating_sub(2 + controllers + machine.interfaces.len())
}
