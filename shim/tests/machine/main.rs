//! The shim as a program: with the real qemu under emulation and guests of one
//! sector, and with a fake qemu for the faults that the real one does not
//! have. Every test waits for a state and none for time to pass.

mod bench;
mod collect;
mod devices;
mod disks;
mod faults;
mod images;
mod life;
mod outages;
mod races;
mod refusals;
mod requests;
mod sizes;
