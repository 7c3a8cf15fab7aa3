//! Is there the memory that the guest is to have?
//!
//! Two numbers bound it: what the machine can still give, and the limit of
//! the container's cgroup where it is visible (v2 `memory.max`, v1
//! `memory/memory.limit_in_bytes`). A guest that is larger than either would
//! be killed later, in the middle of its work. A number that cannot be read
//! bounds nothing: the kernel, not the shim, has the last word on memory.

use std::fs;
use std::path::Path;

/// There is less memory than the guest is to have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The machine has too little to give.
    #[error(
        "the guest is to have {} and the node has {} available: \
         lower the VM's memory or free some on the node",
        mebibytes(*wanted),
        mebibytes(*available)
    )]
    Machine {
        /// The guest's memory in bytes.
        wanted: u64,
        /// `MemAvailable`, in bytes.
        available: u64,
    },
    /// The container may use too little.
    #[error(
        "the guest is to have {} and the container's memory limit is {}: \
         raise the limit above the guest's memory or lower the VM's memory",
        mebibytes(*wanted),
        mebibytes(*limit)
    )]
    Container {
        /// The guest's memory in bytes.
        wanted: u64,
        /// The cgroup's limit in bytes.
        limit: u64,
    },
}

/// Compares the guest's memory with what there is.
pub(super) fn check(wanted: u64, meminfo: &Path, cgroup: &Path) -> Result<(), MemoryError> {
    // qemu itself needs some as well, so a limit of exactly the guest's
    // memory is too little.
    if let Some(limit) = container_limit(cgroup).filter(|limit| *limit <= wanted) {
        return Err(MemoryError::Container { wanted, limit });
    }
    let available = fs::read_to_string(meminfo)
        .ok()
        .and_then(|text| available(&text));
    match available.filter(|available| *available < wanted) {
        Some(available) => Err(MemoryError::Machine { wanted, available }),
        None => Ok(()),
    }
}

/// `MemAvailable` of a `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The limit of the cgroup mounted at `cgroup`. "max" and a missing file are
/// no limit; v1 writes no limit as a number near 2^63, which bounds nothing.
fn container_limit(cgroup: &Path) -> Option<u64> {
    ["memory.max", "memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|file| fs::read_to_string(cgroup.join(file)).ok())
        .and_then(|text| text.trim().parse().ok())
}

/// Rounded down, so that "less than" never shows two equal numbers wrongly
/// in the guest's favour; with the bytes when it is not whole.
fn mebibytes(bytes: u64) -> String {
    let (whole, rest) = (bytes >> 20, bytes & ((1 << 20) - 1));
    if rest == 0 {
        format!("{whole} MiB")
    } else {
        format!("{whole} MiB ({bytes} bytes)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new(meminfo: &str) -> Self {
            let dir = tempfile::tempdir().expect("a temporary directory");
            fs::write(dir.path().join("meminfo"), meminfo).expect("meminfo");
            Self(dir)
        }

        fn with(self, file: &str, text: &str) -> Self {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("cgroup directory");
            fs::write(path, text).expect("cgroup file");
            self
        }

        fn check(&self, wanted: u64) -> Result<(), MemoryError> {
            check(
                wanted,
                &self.0.path().join("meminfo"),
                &self.0.path().join("cgroup"),
            )
        }
    }

    fn gib() -> Host {
        Host::new("MemTotal:  2097152 kB\nMemFree:  1024 kB\nMemAvailable:    1048576 kB\n")
    }

    #[test]
    fn a_guest_as_large_as_what_is_available_fits() {
        assert_eq!(gib().check(1024 * MIB), Ok(()));
    }

    #[test]
    fn a_larger_guest_is_refused_with_both_numbers() {
        let error = gib().check(1025 * MIB).expect_err("too large");
        assert_eq!(
            error,
            MemoryError::Machine {
                wanted: 1025 * MIB,
                available: 1024 * MIB
            }
        );
        let text = error.to_string();
        assert!(
            text.contains("1025 MiB") && text.contains("1024 MiB"),
            "{text}"
        );
    }

    #[test]
    fn the_limit_of_either_cgroup_version_counts() {
        for file in ["cgroup/memory.max", "cgroup/memory/memory.limit_in_bytes"] {
            let host = gib().with(file, &format!("{}\n", 512 * MIB));
            assert_eq!(host.check(511 * MIB), Ok(()), "{file}");
            for wanted in [512 * MIB, 513 * MIB] {
                assert_eq!(
                    host.check(wanted),
                    Err(MemoryError::Container {
                        wanted,
                        limit: 512 * MIB
                    }),
                    "{file}"
                );
            }
        }
    }

    #[test]
    fn no_limit_is_no_limit() {
        assert_eq!(
            gib().with("cgroup/memory.max", "max\n").check(1024 * MIB),
            Ok(())
        );
        let v1 = gib().with(
            "cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        assert_eq!(v1.check(1024 * MIB), Ok(()));
    }

    #[test]
    fn a_report_without_the_number_bounds_nothing() {
        assert_eq!(Host::new("MemTotal: 1 kB\n").check(1024 * MIB), Ok(()));
    }
}
