//! How much memory a VM's pod needs beside the guest's own.
//!
//! The constants come from measuring qemu 7.2 on x86-64 in its pod (resident
//! memory without guest RAM; see docs/vm.md): q35 with virtio devices has 22
//! MiB of private memory and 22 MiB of program text before the guest runs; a
//! vCPU adds its stack and state; page tables for guest RAM take 1/512 of it;
//! translated code under emulation grows to the size that the shim allows.

use coracle_api::machine::{Disk, DiskSource, Machine};
use coracle_api::types::Accelerator;

const MIB: u64 = 1 << 20;
/// qemu with its devices, the shim, sockets and seeds.
const BASE: u64 = 56 * MIB;
/// Per virtual CPU.
const PER_VCPU: u64 = 2 * MIB;
/// Per disk: queues, AIO contexts, and what flies when the guest is busy.
const PER_DISK: u64 = MIB;
/// Per disk in a container image: the caches of the tables of two qcow2 files,
/// image and overlay, which the shim bounds to 4 MiB each, and theirs of
/// reference counts. Reckoned, not measured.
const PER_IMAGE: u64 = 9 * MIB;
/// Per device of the node: what qemu keeps of it (configuration space, a copy
/// of its ROM, interrupts, USB requests). Reckoned, not measured: it takes
/// hardware.
const PER_DEVICE: u64 = 8 * MIB;
/// qemu's translation cache under emulation (`tb-size=128`) and the
/// bookkeeping that goes with it.
const EMULATION: u64 = 192 * MIB;

/// Bytes that the pod is given beyond the guest's memory, a whole number of
/// MiB.
#[must_use]
pub fn bytes(machine: &Machine) -> u64 {
    let emulation = match machine.accelerator {
        Accelerator::Kvm => 0,
        Accelerator::Emulation => EMULATION,
    };
    let disks = u64::try_from(machine.disks.len()).unwrap_or(u64::MAX);
    let in_image = |disk: &&Disk| matches!(disk.source, DiskSource::Image { .. });
    let images = machine.disks.iter().filter(in_image).count();
    let images = u64::try_from(images).unwrap_or(u64::MAX);
    let devices = u64::try_from(machine.devices.len()).unwrap_or(u64::MAX);
    // The IOMMU has page tables for the guest's memory as well.
    let iommu = if devices == 0 {
        0
    } else {
        machine.memory_bytes / 512
    };
    let sum = BASE
        + PER_VCPU * u64::from(machine.cpu.count())
        + PER_DISK.saturating_mul(disks)
        + PER_IMAGE.saturating_mul(images)
        + machine.memory_bytes / 512
        + PER_DEVICE.saturating_mul(devices)
        + iommu
        + emulation;
    sum.div_ceil(MIB) * MIB
}
