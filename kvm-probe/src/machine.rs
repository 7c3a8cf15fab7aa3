//! The smallest virtual machine: some memory and one virtual CPU.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use crate::error::ProbeError;
use crate::guest::{CODE, MEMORY, PAGE, PML4, page_tables};
use crate::kick;

/// The one version of the interface there is.
const API_VERSION: i32 = 12;
/// Where Intel processors without "unrestricted guest" keep a task state
/// segment of KVM's own: out of the guest's way, the place qemu uses.
const TSS_ADDRESS: usize = 0xfffb_d000;

/// Opens the device and makes a VM.
pub(crate) fn open(device: &Path) -> Result<(Kvm, VmFd), ProbeError> {
    let path = CString::new(device.as_os_str().as_bytes()).map_err(|_| ProbeError::Missing {
        device: device.to_owned(),
    })?;
    let kvm = Kvm::new_with_path(path).map_err(|errno| open_error(device, errno.into()))?;
    let found = kvm.get_api_version();
    if found != API_VERSION {
        return Err(ProbeError::NotKvm {
            device: device.to_owned(),
            found,
        });
    }
    let vm = kvm.create_vm().map_err(|errno| ProbeError::NoVm {
        source: errno.into(),
    })?;
    Ok((kvm, vm))
}

fn open_error(device: &Path, source: io::Error) -> ProbeError {
    use nix::errno::Errno;
    let device = device.to_owned();
    match source.raw_os_error().map(Errno::from_raw) {
        // ENXIO and ENODEV: a node without a driver behind it.
        Some(Errno::ENOENT | Errno::ENXIO | Errno::ENODEV) => ProbeError::Missing { device },
        Some(Errno::EPERM) => ProbeError::NotGiven { device, source },
        Some(Errno::EACCES) => ProbeError::Denied {
            device,
            uid: nix::unistd::geteuid().as_raw(),
            source,
        },
        _ => ProbeError::Open { device, source },
    }
}

/// A page of the guest's memory, aligned as KVM wants it.
#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u8; PAGE]);

/// A machine that is ready to run one piece of code.
pub(crate) struct Machine {
    // Dropped in this order: the memory goes last.
    pub(crate) vcpu: VcpuFd,
    _vm: VmFd,
    _memory: Vec<Page>,
}

/// Where a virtual CPU starts.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// 16-bit code, as after a reset.
    Real,
    /// 64-bit code in ring 0.
    Long,
}

impl Machine {
    /// A machine whose virtual CPU starts at the code.
    pub(crate) fn new(kvm: &Kvm, vm: VmFd, mode: Mode, code: &[u8]) -> Result<Self, ProbeError> {
        let mut memory = vec![Page([0; PAGE]); MEMORY / PAGE];
        for (at, entry) in page_tables() {
            memory[at / PAGE].0[..8].copy_from_slice(&entry.to_le_bytes());
        }
        memory[CODE / PAGE].0[..code.len()].copy_from_slice(code);
        setup(
            "place its task state segment",
            vm.set_tss_address(TSS_ADDRESS),
        )?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: MEMORY as u64,
            userspace_addr: memory.as_mut_ptr() as u64,
        };
        // SAFETY: the region is this vector's memory, which nothing here reads
        // or writes from now on, and which outlives the VM.
        #[expect(unsafe_code, reason = "the guest's memory is the host's")]
        let added = unsafe { vm.set_user_memory_region(region) };
        setup("take guest memory", added)?;
        let vcpu = setup("make a virtual CPU", vm.create_vcpu(0))?;
        let cpuid = setup(
            "name its features",
            kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES),
        )?;
        setup("set the virtual CPU's features", vcpu.set_cpuid2(&cpuid))?;
        enter(&vcpu, mode)?;
        kick::listen(&vcpu).map_err(|source| ProbeError::Setup {
            step: "set a signal mask",
            source,
        })?;
        Ok(Self {
            vcpu,
            _vm: vm,
            _memory: memory,
        })
    }
}

/// Sets the registers.
fn enter(vcpu: &VcpuFd, mode: Mode) -> Result<(), ProbeError> {
    let mut sregs = setup("read the virtual CPU's state", vcpu.get_sregs())?;
    match mode {
        Mode::Real => {
            sregs.cs.base = 0;
            sregs.cs.selector = 0;
        }
        Mode::Long => {
            const CR0_PE_ET_PG: u64 = 1 | 1 << 4 | 1 << 31;
            const CR4_PAE: u64 = 1 << 5;
            const EFER_LME_LMA: u64 = 1 << 8 | 1 << 10;
            sregs.cr3 = PML4 as u64;
            sregs.cr4 = CR4_PAE;
            sregs.cr0 = CR0_PE_ET_PG;
            sregs.efer = EFER_LME_LMA;
            let data = kvm_segment {
                base: 0,
                limit: u32::MAX,
                selector: 2 << 3,
                type_: 0b0011, // data, writable, accessed
                present: 1,
                s: 1,
                g: 1,
                db: 1,
                ..kvm_segment::default()
            };
            // Code, readable, accessed; 64-bit.
            sregs.cs = kvm_segment {
                selector: 1 << 3,
                type_: 0b1011,
                l: 1,
                db: 0,
                ..data
            };
            for segment in [
                &mut sregs.ds,
                &mut sregs.es,
                &mut sregs.fs,
                &mut sregs.gs,
                &mut sregs.ss,
            ] {
                *segment = data;
            }
        }
    }
    setup("set the virtual CPU's state", vcpu.set_sregs(&sregs))?;
    let mut regs = setup("read the virtual CPU's registers", vcpu.get_regs())?;
    regs.rip = CODE as u64;
    regs.rflags = 2; // The bit that is always set; no interrupts.
    setup("set the virtual CPU's registers", vcpu.set_regs(&regs))
}

fn setup<T>(step: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T, ProbeError> {
    result.map_err(|errno| ProbeError::Setup {
        step,
        source: errno.into(),
    })
}
