//! Everything that is checked before qemu starts, so that a mistake is told
//! as what it is and not as qemu's last words.
//!
//! The order is cheap to dear: the description itself, the kernel's files,
//! memory, KVM, the node's devices, and last the disks, whose exclusive descriptors then stay open
//! as long as [`Found`] lives. Nothing is changed but what is this VM's alone:
//! seed files in the runtime directory, images that are to be created.
//! Implements design §5 and §8. All of it blocks; the longest step is the KVM
//! probe, which ends within a few seconds.

mod boot;
mod check;
mod devices;
mod disks;
mod identity;
mod kvm;
mod memory;
pub(crate) mod processor;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use coracle_api::machine::Machine;
use coracle_api::names;
use coracle_api::types::Accelerator;
use coracle_block::device::OpenDisk;
use coracle_block::qemu::Host;
use coracle_block::uring::{self, NoIoUring};

pub use check::{DiskProblem, Problem, check};
pub use devices::{DeviceError, DevicePaths, FoundDevice, Passed, Variables};
#[cfg(test)]
pub(crate) use disks::resolved;
pub use disks::{DiskError, FoundDisk};
pub use kvm::KvmError;
pub use memory::MemoryError;

use crate::refusal::Refusal;

/// Where the shim looks.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The shim's runtime directory; seeds are written here.
    pub run_dir: PathBuf,
    /// The KVM device.
    pub kvm: PathBuf,
    /// The kernel's memory report.
    pub meminfo: PathBuf,
    /// The kernel's account of the processors.
    pub cpuinfo: PathBuf,
    /// Where the container sees its cgroup.
    pub cgroup: PathBuf,
    /// qemu, which is looked at and not run.
    pub qemu: PathBuf,
    /// Where devices of the node are.
    pub devices: DevicePaths,
}

impl Paths {
    /// The paths of a container, with this runtime directory and qemu.
    #[must_use]
    pub fn of_container(run_dir: &Path, qemu: &Path) -> Self {
        Self {
            run_dir: run_dir.to_owned(),
            kvm: "/dev/kvm".into(),
            meminfo: "/proc/meminfo".into(),
            cpuinfo: "/proc/cpuinfo".into(),
            cgroup: "/sys/fs/cgroup".into(),
            qemu: qemu.to_owned(),
            devices: DevicePaths::default(),
        }
    }
}

/// What the container's environment says.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// [`names::ENV_KVM_PROBE`]: how far the KVM probe must get; without it,
    /// all the way.
    pub kvm_probe: Option<String>,
    /// Those that name devices of the node.
    pub devices: Variables,
}

impl Environment {
    /// Takes what it needs from all the variables that there are.
    pub fn of(all: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut all: BTreeMap<String, String> = all.into_iter().collect();
        Self {
            kvm_probe: all.remove(names::ENV_KVM_PROBE),
            devices: Variables::of(all),
        }
    }
}

/// What was found, and what is held for the VM while this lives.
#[derive(Debug)]
pub struct Found {
    /// The disks, in the machine's order.
    pub disks: Vec<FoundDisk>,
    /// The node's devices, in the machine's order.
    pub devices: Vec<FoundDevice>,
    /// The descriptors that keep everything else off the disks.
    pub guards: Vec<OpenDisk>,
    /// Whether the host's processors have `IA32_ARCH_CAPABILITIES`.
    pub arch_capabilities: bool,
    /// Whether qemu can use `io_uring`.
    pub io_uring: Result<(), NoIoUring>,
}

impl Found {
    /// What qemu has to work with.
    #[must_use]
    pub fn host(&self, machine: &Machine) -> Host {
        Host {
            vcpus: machine.cpu.count(),
            io_uring: self.io_uring,
        }
    }
}

/// Reads the machine description in `config_dir`.
///
/// # Errors
/// [`Refusal::Unreadable`] and [`Refusal::Description`].
pub fn load(config_dir: &Path) -> Result<Machine, Refusal> {
    let path = config_dir.join(names::MACHINE_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(Refusal::Unreadable { path, source }),
    };
    Machine::from_json(&text).map_err(|source| Refusal::Description { path, source })
}

/// Checks everything about `machine` and opens its disks.
///
/// # Guarantees
/// What is wrong with the description is reported in full; of what the host
/// lacks, the first thing. When this fails, no descriptor stays open.
///
/// # Errors
/// One [`Refusal`], worded for the person who wrote the manifest.
pub fn prepare(
    machine: &Machine,
    paths: &Paths,
    environment: &Environment,
) -> Result<Found, Refusal> {
    let problems = check(machine);
    if !problems.is_empty() {
        return Err(Refusal::Impossible { problems });
    }
    boot::check_files(&machine.firmware)?;
    memory::check(machine.memory_bytes, &paths.meminfo, &paths.cgroup)
        .map_err(|source| Refusal::Memory { source })?;
    if machine.accelerator == Accelerator::Kvm {
        kvm::check(&paths.kvm, environment.kvm_probe.as_deref())
            .map_err(|source| Refusal::Kvm { source })?;
    }
    let devices = devices::find(machine, &environment.devices, &paths.devices)?;
    let disks = disks::open_all(machine, &paths.run_dir, uring::probe(&paths.qemu))?;
    Ok(Found {
        devices,
        arch_capabilities: processor::has_arch_capabilities(&paths.cpuinfo),
        ..disks
    })
}

#[cfg(test)]
mod tests;
