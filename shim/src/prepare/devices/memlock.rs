//! May the guest's memory be locked, as VFIO does?
//!
//! The kernel counts what it pins for a device's DMA against `RLIMIT_MEMLOCK`
//! and lets qemu fail in the middle of its start. A soft limit below the hard
//! one is raised, which any process may; qemu inherits it.

use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::DeviceError;

/// Beyond the guest's memory: firmware, ROMs and what else of qemu's the
/// guest's devices can reach. Less than what the pod has beside the guest's
/// memory, so a limit of the pod's memory is enough.
pub(super) const MARGIN: u64 = 32 << 20;
/// The bit of `CAP_IPC_LOCK`, which no limit holds.
const CAP_IPC_LOCK: u32 = 14;

/// What a process may lock, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limits {
    /// Anything.
    None,
    /// As much as this.
    Bytes {
        soft: u64,
        /// What the soft limit can be raised to.
        hard: u64,
    },
}

impl Limits {
    /// Those of this process, whose `/proc/self/status` is `status`. What
    /// cannot be read limits nothing: the kernel has the last word.
    pub(super) fn of_process(status: &Path) -> Self {
        let text = fs::read_to_string(status).unwrap_or_default();
        if may_lock(&text) {
            return Self::None;
        }
        match getrlimit(Resource::RLIMIT_MEMLOCK) {
            Ok((soft, hard)) => Self::Bytes { soft, hard },
            Err(_) => Self::None,
        }
    }
}

/// Whether a `/proc/PID/status` has the effective capability.
fn may_lock(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    capabilities.is_some_and(|bits| bits & (1 << CAP_IPC_LOCK) != 0)
}

/// Makes sure that `memory` bytes of guest can be locked.
pub(super) fn ensure(memory: u64, limits: Limits) -> Result<(), DeviceError> {
    let Limits::Bytes { soft, hard } = limits else {
        return Ok(());
    };
    let wanted = memory.saturating_add(MARGIN);
    if hard < wanted {
        return Err(DeviceError::Memlock {
            wanted,
            limit: hard,
        });
    }
    let raised = soft >= wanted || setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard).is_ok();
    if raised {
        Ok(())
    } else {
        Err(DeviceError::Memlock {
            wanted,
            limit: soft,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_limit_holds_guest_and_margin() {
        let of = |limit| {
            let limits = Limits::Bytes {
                soft: limit,
                hard: limit,
            };
            ensure(GIB, limits)
        };
        assert!(of(u64::MAX).is_ok() && of(GIB + MARGIN).is_ok());
        assert!(ensure(GIB, Limits::None).is_ok());
        let error = of(8 << 20).expect_err("too low");
        let text = error.to_string();
        for part in [
            "1056 MiB",
            "8 MiB",
            "LimitMEMLOCK=infinity",
            "default_ulimits",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(of(GIB + MARGIN - 1).is_err());
        // No sum overflows.
        let limits = Limits::Bytes {
            soft: 0,
            hard: u64::MAX - 1,
        };
        assert!(ensure(u64::MAX, limits).is_err());
    }

    #[test]
    fn a_capability_is_no_limit() {
        assert!(may_lock(
            "Name:\tshim\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n"
        ));
        assert!(!may_lock(
            "CapBnd:\t000001ffffffffff\nCapEff:\t0000000000003fff\n"
        ));
        assert!(!may_lock("CapEff:\tnone\n") && !may_lock(""));
    }
}
