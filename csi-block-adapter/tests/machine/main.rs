//! The device side against this machine: real loop devices, real files, real
//! qemu. What needs root or a program that is not there is skipped, and says
//! so.

#[cfg(test)]
mod errors;
#[cfg(test)]
mod exclusive;
#[cfg(test)]
mod images;
#[cfg(test)]
mod inspect;
#[cfg(test)]
mod permission;
#[cfg(test)]
mod qemu;
#[cfg(test)]
mod races;
#[cfg(test)]
mod support;
