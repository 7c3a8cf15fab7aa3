//! How a volume is to be used, and how big it is to be: read from the wire,
//! or refused.

use crate::error::CsiError;
use crate::proto::volume_capability::access_mode::Mode;
use crate::proto::volume_capability::{AccessType, MountVolume};
use crate::proto::{CapacityRange, VolumeCapability};

/// Sizes are multiples of it.
pub(crate) const GRANULE: u64 = 1 << 20;
/// The size of a volume that no size was asked for.
const DEFAULT_SIZE: u64 = 64 << 20;

/// As what a volume appears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// A block device.
    Block,
    /// A directory.
    Mount { flags: Vec<String> },
}

/// The one kind of file system that is made.
pub(crate) const FILE_SYSTEM: &str = "ext4";

impl Access {
    /// # Errors
    /// When it is missing, or the driver has no such thing. More than one
    /// node may not use a file system at a time, nor write a volume alone.
    pub(crate) fn read(capability: Option<&VolumeCapability>) -> Result<Self, CsiError> {
        const FIELD: &str = "volume_capability";
        let capability = capability.ok_or(CsiError::Missing { field: FIELD })?;
        let mode = capability.access_mode.as_ref();
        let mode = mode.ok_or(CsiError::Missing {
            field: "access_mode",
        })?;
        let mode = Mode::try_from(mode.mode).unwrap_or(Mode::Unknown);
        let kind = capability.access_type.as_ref();
        let kind = kind.ok_or(CsiError::Missing {
            field: "access_type",
        })?;
        let single = matches!(mode, Mode::SingleNodeWriter | Mode::SingleNodeReaderOnly);
        let many = matches!(mode, Mode::MultiNodeReaderOnly | Mode::MultiNodeMultiWriter);
        match kind {
            AccessType::Block(_) if single || many => Ok(Self::Block),
            AccessType::Mount(mount) if single => Self::mount(mount),
            AccessType::Block(_) => Err(unsupported(format!("{} of a block device", name(mode)))),
            AccessType::Mount(_) => Err(unsupported(format!("{} of a file system", name(mode)))),
        }
    }

    fn mount(mount: &MountVolume) -> Result<Self, CsiError> {
        if !["", FILE_SYSTEM].contains(&mount.fs_type.as_str()) {
            return Err(unsupported(format!("the file system {:?}", mount.fs_type)));
        }
        Ok(Self::Mount {
            flags: mount.mount_flags.clone(),
        })
    }

    /// Whether all of them can be.
    ///
    /// # Errors
    /// When there is none, or one of them cannot.
    pub(crate) fn check(capabilities: &[VolumeCapability]) -> Result<(), CsiError> {
        if capabilities.is_empty() {
            return Err(CsiError::Missing {
                field: "volume_capabilities",
            });
        }
        for capability in capabilities {
            Self::read(Some(capability))?;
        }
        Ok(())
    }
}

fn name(mode: Mode) -> &'static str {
    mode.as_str_name()
}

fn unsupported(what: String) -> CsiError {
    CsiError::Unsupported { what }
}

/// A range of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    required: u64,
    limit: Option<u64>,
}

impl Sizes {
    pub(crate) fn read(range: Option<&CapacityRange>) -> Result<Self, CsiError> {
        let range = range.copied().unwrap_or_default();
        let (Ok(required), Ok(limit)) = (
            u64::try_from(range.required_bytes),
            u64::try_from(range.limit_bytes),
        ) else {
            return Err(unsupported("a negative size".to_owned()));
        };
        Ok(Self {
            required,
            limit: (limit > 0).then_some(limit),
        })
    }

    /// The size of a new volume that begins with `source` bytes.
    pub(crate) fn choose(self, source: u64) -> Result<u64, CsiError> {
        let wanted = match self.required.max(source) {
            0 => self.limit.unwrap_or(DEFAULT_SIZE).min(DEFAULT_SIZE),
            some => some,
        };
        let wanted = wanted.checked_next_multiple_of(GRANULE).unwrap_or(wanted);
        match self.limit {
            Some(limit) if wanted > limit => Err(CsiError::OutOfRange { wanted, limit }),
            _ => Ok(wanted),
        }
    }

    /// Whether something of this size is in the range.
    pub(crate) fn hold(self, bytes: u64) -> bool {
        bytes >= self.required && self.limit.is_none_or(|limit| bytes <= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::volume_capability::{AccessMode, BlockVolume};

    fn capability(mode: Mode, kind: AccessType) -> VolumeCapability {
        VolumeCapability {
            access_mode: Some(AccessMode { mode: mode.into() }),
            access_type: Some(kind),
        }
    }

    fn file_system(kind: &str) -> AccessType {
        AccessType::Mount(MountVolume {
            fs_type: kind.to_owned(),
            ..MountVolume::default()
        })
    }

    fn sizes(required: i64, limit: i64) -> Sizes {
        let range = CapacityRange {
            required_bytes: required,
            limit_bytes: limit,
        };
        Sizes::read(Some(&range)).expect("not negative")
    }

    #[test]
    fn a_block_device_may_be_shared_and_a_file_system_may_not() {
        let block = AccessType::Block(BlockVolume {});
        let shared = capability(Mode::MultiNodeMultiWriter, block);
        assert_eq!(Access::read(Some(&shared)).ok(), Some(Access::Block));
        let shared = capability(Mode::MultiNodeMultiWriter, file_system(""));
        assert!(Access::read(Some(&shared)).is_err());
        let single = capability(Mode::SingleNodeWriter, file_system("ext4"));
        let mounted = Access::Mount { flags: Vec::new() };
        assert_eq!(Access::read(Some(&single)).ok(), Some(mounted));
        let other = capability(Mode::SingleNodeWriter, file_system("ntfs"));
        assert!(Access::read(Some(&other)).is_err());
        assert!(Access::check(&[]).is_err());
    }

    #[test]
    fn a_size_is_rounded_up_within_its_limit() {
        let mib = 1 << 20;
        assert_eq!(sizes(1, 0).choose(0).ok(), Some(GRANULE));
        assert_eq!(sizes(0, 0).choose(0).ok(), Some(DEFAULT_SIZE));
        assert_eq!(sizes(mib, mib).choose(0).ok(), Some(GRANULE));
        assert_eq!(sizes(mib, 0).choose(3 * GRANULE).ok(), Some(3 * GRANULE));
        assert!(sizes(mib + 1, mib + 2).choose(0).is_err());
        assert!(sizes(0, mib).choose(2 * GRANULE).is_err());
        assert!(sizes(mib, 0).hold(GRANULE) && !sizes(mib, 0).hold(GRANULE - 1));
        assert!(!sizes(0, mib).hold(GRANULE + 1));
    }
}
