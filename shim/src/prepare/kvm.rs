//! Does `/dev/kvm` do what `accelerator: Kvm` promises?
//!
//! The device plugin probed before it advertised the device, perhaps long ago
//! and by another road; the container's own probe has the last word.

use std::path::{Path, PathBuf};

use coracle_api::names;
use coracle_kvm_probe::{Level, ProbeError};
use tracing::info;

/// KVM is not what it has to be.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// The environment asks for a probe that does not exist.
    #[error(
        "{} is {value:?}, and the probe's levels are open, run and kernel: \
         the device plugin and this image are of different releases",
        names::ENV_KVM_PROBE
    )]
    Level {
        /// What the environment says.
        value: String,
    },
    /// The probe failed.
    #[error(
        "{} does not pass the probe \"{level}\": the pod must get `{}` from a node whose \
         KVM works, or the VM must ask for `accelerator: Emulation`",
        device.display(),
        names::RESOURCE_KVM
    )]
    Probe {
        /// The device.
        device: PathBuf,
        /// How far the probe had to get.
        level: Level,
        /// Where it ended.
        source: ProbeError,
    },
}

/// Probes `device` as far as `level` says; without a level, all the way.
pub(super) fn check(device: &Path, level: Option<&str>) -> Result<(), KvmError> {
    let level = match level {
        None => Level::Kernel,
        Some(value) => value.parse().map_err(|_| KvmError::Level {
            value: value.to_owned(),
        })?,
    };
    let report = coracle_kvm_probe::probe(device, level).map_err(|source| KvmError::Probe {
        device: device.to_owned(),
        level,
        source,
    })?;
    info!(device = %device.display(), %level, ?report, "KVM passed the probe");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_level_is_no_level() {
        let error = check(Path::new("/dev/kvm"), Some("thorough")).expect_err("unknown");
        assert!(
            matches!(&error, KvmError::Level { value } if value == "thorough"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_device_is_named_with_the_way_out() {
        let error = check(Path::new("/nonexistent/kvm"), None).expect_err("missing");
        let text = error.to_string();
        assert!(
            text.contains("/nonexistent/kvm") && text.contains("accelerator: Emulation"),
            "{text}"
        );
    }
}
