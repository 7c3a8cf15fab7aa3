//! Tells whether a `/dev/kvm` can run what a guest needs, by running it.
//!
//! A KVM that opens may still refuse to make a VM, and one that runs a few
//! instructions of real mode may still be too slow or too incomplete for any
//! kernel: nested setups that interpret the guest's kernel mode exist, and on
//! them every VM hangs and then dies. So there are three [`Level`]s, each of
//! which implies the ones before it.
//!
//! What it guarantees: it ends. The virtual CPU runs in a thread of its own
//! and is called off when its time is up. What it must never do: change
//! anything on the host, or judge by the time of a clock on the wall; a busy
//! node is not a slow KVM, so the virtual CPU's own time counts.

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the probe's guests are x86-64 code");

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod attempt;
mod error;
mod guest;
mod kick;
mod machine;

pub use error::{ProbeError, UnknownLevel};

/// How far a probe goes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The device opens, is KVM, and makes a VM.
    Open,
    /// A virtual CPU runs a few instructions in real mode: enough for
    /// firmware and boot sectors, however slow.
    Run,
    /// A virtual CPU runs 64-bit kernel-mode code at a native speed, and the
    /// instructions that every kernel has: enough for an operating system.
    #[default]
    Kernel,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Open => "open",
            Self::Run => "run",
            Self::Kernel => "kernel",
        })
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        match text {
            "open" => Ok(Self::Open),
            "run" => Ok(Self::Run),
            "kernel" => Ok(Self::Kernel),
            _ => Err(UnknownLevel {
                text: text.to_owned(),
            }),
        }
    }
}

/// What a probe that passed found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The device.
    pub device: PathBuf,
    /// The level that was passed.
    pub level: Level,
    /// How many instructions of 64-bit kernel mode the virtual CPU ran in a
    /// second; measured by [`Level::Kernel`] only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions_per_second: Option<u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            device,
            level,
            instructions_per_second,
        } = self;
        write!(f, "{} passes the probe \"{level}\"", device.display())?;
        if let Some(speed) = instructions_per_second {
            write!(
                f,
                " ({} million kernel instructions per second)",
                speed / 1_000_000
            )?;
        }
        Ok(())
    }
}

/// Probes a KVM device.
///
/// # Guarantees
/// Blocks the caller for two seconds at most, a few milliseconds on healthy
/// hardware.
pub fn probe(device: &Path, level: Level) -> Result<Report, ProbeError> {
    let instructions_per_second = attempt::bounded(device, level)?;
    Ok(Report {
        device: device.to_owned(),
        level,
        instructions_per_second,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_spelled_as_they_are_read() {
        for level in [Level::Open, Level::Run, Level::Kernel] {
            assert_eq!(level.to_string().parse::<Level>().expect("reads"), level);
        }
        let error = "Kernel".parse::<Level>().expect_err("lower case only");
        assert_eq!(
            error.to_string(),
            "\"Kernel\" is not a probe level: open, run or kernel"
        );
        assert!(Level::Open < Level::Run && Level::Run < Level::Kernel);
    }
}
