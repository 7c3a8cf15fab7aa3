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
/// The first slot of the root ports for the node's devices: eight in a slot.
const ROOT_PORTS: usize = 0x19;
/// A slot has eight functions.
const FUNCTIONS: usize = 8;
/// The SCSI controller, when a disk needs it.
pub(super) const SCSI: usize = 0x1b;
/// The USB controller, when a disk or a device of the node needs it.
pub(super) const USB: usize = 0x1c;
/// The memory balloon.
pub(super) const BALLOON: usize = 0x1d;
/// The entropy source.
pub(super) const RNG: usize = 0x1e;

/// How many network cards have a slot.
pub(crate) const NICS_MAX: usize = ROOT_PORTS - NIC;
/// How many root ports there is room for.
pub(crate) const PORTS_MAX: usize = (SCSI - ROOT_PORTS) * FUNCTIONS;
/// Slots 1 to 30.
const SLOTS: usize = 30;

/// The slot of a network card.
pub(super) fn nic(index: usize) -> usize {
    NIC + index
}

/// Slot and function of a root port.
pub(super) fn root_port(index: usize) -> (usize, usize) {
    (ROOT_PORTS + index / FUNCTIONS, index % FUNCTIONS)
}

/// Whether a disk of this machine sits on `bus`.
pub(super) fn needs(machine: &Machine, bus: DiskBus) -> bool {
    machine.disks.iter().any(|disk| disk.bus == bus)
}

/// How many virtio disks find a slot beside everything else.
pub(crate) fn slots_for_disks(machine: &Machine) -> usize {
    // Of what kind a device of the node is, only the node can tell.
    let devices = machine.devices.len();
    let usb = needs(machine, DiskBus::Usb) || devices > 0;
    let controllers = usize::from(usb) + usize::from(needs(machine, DiskBus::Scsi));
    // The balloon and the entropy source are always there.
    let others = 2 + controllers + devices.div_ceil(FUNCTIONS);
    SLOTS.saturating_sub(others + machine.interfaces.len())
}
