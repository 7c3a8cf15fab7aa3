//! Why a pod's volume cannot be made.

use std::io;
use std::path::PathBuf;

/// Why a pod's volume cannot be made or removed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum PodVolumeError {
    /// A kind of volume that no VM pod has.
    #[error(
        "volume {volume:?} of the pod is of a kind that one machine cannot play; there are \
         downwardAPI, emptyDir, secret, configMap and persistentVolumeClaim"
    )]
    UnsupportedKind { volume: String },

    /// An emptyDir's medium.
    #[error(
        "volume {volume:?} of the pod: unknown medium {medium:?}: allowed are \"\", \"Memory\""
    )]
    UnsupportedMedium { volume: String, medium: String },

    /// A field of the pod that the downward API does not show here.
    #[error(
        "volume {volume:?} of the pod: the field {field:?} cannot be shown in a file; there are \
         metadata.name, .namespace, .uid, .labels, .annotations, and one label or annotation as \
         metadata.annotations['KEY']"
    )]
    UnsupportedField { volume: String, field: String },

    /// The claim was not attached.
    #[error(
        "volume {volume:?} of the pod: claim {claim:?} is not attached; add `--volume {claim}=PATH`"
    )]
    NotAttached { volume: String, claim: String },

    /// The secret or config map is in no manifest.
    #[error(
        "volume {volume:?} of the pod: no manifest has the {kind} {name:?}; add it to the files"
    )]
    NotFound {
        volume: String,
        kind: &'static str,
        name: String,
    },

    /// It lacks a key.
    #[error(
        "volume {volume:?} of the pod: the {kind} {name:?} has no key {key:?} (it has: {known})"
    )]
    NoKey {
        volume: String,
        kind: &'static str,
        name: String,
        key: String,
        known: String,
    },

    /// The volume source does not name what it is filled from.
    #[error("volume {volume:?} of the pod does not name its {kind}")]
    Unnamed { volume: String, kind: &'static str },

    /// A file's path would leave the volume.
    #[error(
        "volume {volume:?} of the pod: {path:?} cannot be the path of a file in it: relative, \
         without \"..\" at the beginning of a part, at most 255 bytes each"
    )]
    FilePath { volume: String, path: String },

    /// A file's mode is not one.
    #[error("volume {volume:?} of the pod: {mode} is not a file mode; allowed is 0 to 511 (0777)")]
    Mode { volume: String, mode: i32 },

    /// A size that cannot be read.
    #[error("volume {volume:?} of the pod: {size:?} is not a quantity")]
    Size { volume: String, size: String },

    /// A group id that cannot be one.
    #[error("the pod's fsGroup {group} is no group id")]
    FsGroup { group: i64 },

    /// The tmpfs cannot be mounted.
    #[error("a tmpfs cannot be mounted at {}; this needs root (CAP_SYS_ADMIN)", path.display())]
    Mount { path: PathBuf, source: io::Error },

    /// Something stays mounted.
    #[error("{} cannot be unmounted", path.display())]
    Unmount { path: PathBuf, source: io::Error },

    /// Files cannot be written.
    #[error("{} cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },

    /// Files cannot be removed.
    #[error("{} cannot be removed", path.display())]
    Remove { path: PathBuf, source: io::Error },
}
