//! The pod's one process: boots the VM's qemu and answers for it.

pub mod qemu;
pub mod seed;
pub mod prepare;
pub mod refusal;
