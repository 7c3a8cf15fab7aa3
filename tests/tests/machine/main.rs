//! The whole on one machine: the built programs, real containerd, real qemu,
//! real loop devices. Guests are boot sectors under emulation, which start in
//! a tenth of a second.

mod crashes;
mod detached;
mod disks;
mod import;
mod input;
mod interrupts;
mod kvm;
mod outages;
mod refused;
mod running;
mod sharing;
mod volumes;
