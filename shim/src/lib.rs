//! The pod's one process: boots the VM's qemu and answers for it.
//!
//! [`commands`] is the way in. A VM's life goes through [`prepare`] (check and
//! open everything), [`qemu`] (the command line, pure), [`supervisor`] (the one
//! task that owns the VM) with [`lifecycle`] (what it decides, pure) and
//! [`qmp`] (how it talks to qemu). [`console`] and [`control`] are what others
//! see of it, [`disks`] follows what becomes of its disks on the host, [`termination`] is what it leaves behind.

pub mod args;
pub mod commands;
pub mod console;
pub mod control;
pub mod disks;
pub mod lifecycle;
pub mod log;
pub mod prepare;
pub mod qemu;
pub mod qmp;
pub mod refusal;
pub mod seed;
pub mod supervisor;
pub mod termination;
mod text;
