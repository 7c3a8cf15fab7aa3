//! How a virtual CPU that does not come back is called off.
//!
//! `KVM_RUN` returns when its thread has a signal pending. The thread blocks
//! the signal everywhere but in `KVM_RUN` (`KVM_SET_SIGNAL_MASK`), so it is
//! never delivered: no handler is needed, and the process that hosts the
//! probe notices nothing.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

use kvm_ioctls::VcpuFd;
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{SigSet, Signal};

/// Ignored by default, so that it does no harm where it goes astray.
const SIGNAL: Signal = Signal::SIGURG;

/// `struct kvm_signal_mask`, with the kernel's signal set (64 signals).
#[repr(C)]
struct SignalMask {
    len: u32,
    signals: [u8; 8],
}

nix::ioctl_write_ptr_bad!(
    /// `KVM_SET_SIGNAL_MASK`; its number counts only the header of the mask.
    set_signal_mask,
    nix::request_code_write!(0xae, 0x8b, size_of::<u32>()),
    SignalMask
);

/// Blocks the signal in this thread. The threads it starts inherit that.
pub(crate) fn block() -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(SIGNAL);
    Ok(signals.thread_block()?)
}

/// Lets the signal, and no other, end `KVM_RUN` of this virtual CPU.
pub(crate) fn listen(vcpu: &VcpuFd) -> io::Result<()> {
    let all_but_ours = !(1_u64 << (SIGNAL as i32 - 1));
    let mask = SignalMask {
        len: 8,
        signals: all_but_ours.to_ne_bytes(),
    };
    // SAFETY: the descriptor is a virtual CPU's and open, and the mask has as
    // many bytes of signals as its header says.
    #[expect(unsafe_code, reason = "kvm-ioctls has no call for this")]
    unsafe { set_signal_mask(vcpu.as_raw_fd(), &raw const mask) }?;
    Ok(())
}

/// Ends the thread's `KVM_RUN`, this one or the next.
pub(crate) fn kick<T>(thread: &JoinHandle<T>) {
    // Fails only for a thread that has ended.
    let _ = pthread_kill(thread.as_pthread_t(), SIGNAL);
}
