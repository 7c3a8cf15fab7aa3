//! Why a claim cannot be attached: one variant per fact, each with what to do
//! about it in its message.

use std::io;
use std::path::PathBuf;

/// Why a claim cannot be attached or detached.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum VolumeError {
    /// Nothing is at the path.
    #[error(
        "volume {claim:?}: {} does not exist; name a block device, an image file \
         (`truncate -s 10G FILE` makes an empty one) or, for a claim of volumeMode Filesystem, \
         a directory",
        path.display()
    )]
    PathMissing { claim: String, path: PathBuf },

    /// The path cannot be looked at or opened.
    #[error("volume {claim:?}: {} cannot be opened", path.display())]
    Inaccessible {
        claim: String,
        path: PathBuf,
        source: io::Error,
    },

    /// A raw block claim needs a disk.
    #[error(
        "volume {claim:?}: {} is a {what}, neither a block device nor an image file, which a \
         claim of volumeMode Block needs",
        path.display()
    )]
    NotADisk {
        claim: String,
        path: PathBuf,
        what: &'static str,
    },

    /// A filesystem claim needs a directory.
    #[error(
        "volume {claim:?}: {} is a {what}, and the claim has volumeMode Filesystem, which a \
         directory plays; name a directory, or set volumeMode: Block in the claim",
        path.display()
    )]
    NotADirectory {
        claim: String,
        path: PathBuf,
        what: &'static str,
    },

    /// The claim's mode is not one of the two that exist.
    #[error("volume {claim:?}: unknown volumeMode {mode:?}: allowed are \"Block\", \"Filesystem\"")]
    UnknownMode { claim: String, mode: String },

    /// The host has the device, or a part of it, mounted.
    #[error(
        "volume {claim:?}: {} is mounted on this machine ({device} at {}); a VM that wrote to it \
         would destroy the file system: unmount it first, or name another device",
        path.display(), mount_point.display()
    )]
    Mounted {
        claim: String,
        path: PathBuf,
        device: String,
        mount_point: PathBuf,
    },

    /// The host swaps to it.
    #[error(
        "volume {claim:?}: {} is swap space of this machine; `swapoff {}` first, or name another \
         device", path.display(), swap.display()
    )]
    Swap {
        claim: String,
        path: PathBuf,
        swap: PathBuf,
    },

    /// Another block device is built on it.
    #[error(
        "volume {claim:?}: {} is part of {holder} (/sys/dev/block lists it as holder); name that \
         device, or take this one out of it",
        path.display()
    )]
    Held {
        claim: String,
        path: PathBuf,
        holder: String,
    },

    /// Something has it open exclusively.
    #[error(
        "volume {claim:?}: {} is in use: another VM or program has it open exclusively \
         (`fuser -v {}` names it); stop that first",
        path.display(), path.display()
    )]
    Busy { claim: String, path: PathBuf },

    /// The image is already attached to a loop device.
    #[error(
        "volume {claim:?}: {} is already attached as {}; two writers would destroy it: \
         `losetup -d {}` first, or name another image",
        path.display(), loop_device.display(), loop_device.display()
    )]
    ImageAttached {
        claim: String,
        path: PathBuf,
        loop_device: PathBuf,
    },

    /// Another `coracle` has locked the image.
    #[error(
        "volume {claim:?}: {} is in use by another VM (it is locked); stop that VM first \
         (`coracle ps` lists them), or name another image",
        path.display()
    )]
    ImageLocked { claim: String, path: PathBuf },

    /// It cannot be written to, and the VM wants to.
    #[error(
        "volume {claim:?}: {} is read-only, and the VM wants to write to it; make it writable, \
         or set readOnly: true on the VM's disk",
        path.display()
    )]
    ReadOnly { claim: String, path: PathBuf },

    /// It is smaller than the claim's request.
    #[error(
        "volume {claim:?}: {} has {size} bytes, and the claim requests {request} \
         ({request_bytes} bytes); enlarge it (an image: `truncate -s {request_bytes} {}`), or \
         lower spec.resources.requests.storage",
        path.display(), path.display()
    )]
    TooSmall {
        claim: String,
        path: PathBuf,
        size: u64,
        request: String,
        request_bytes: u64,
    },

    /// The claim's request cannot be read.
    #[error("volume {claim:?}: the request {request:?} is not a quantity")]
    Request { claim: String, request: String },

    /// There are no bytes, or half a sector.
    #[error(
        "volume {claim:?}: {} has {size} bytes, which is no whole number of 512-byte sectors \
         from 1; `truncate -s %512 {}` fills up the last one, `truncate -s 10G` enlarges it",
        path.display(), path.display()
    )]
    Sectors {
        claim: String,
        path: PathBuf,
        size: u64,
    },

    /// The image is not raw.
    #[error(
        "volume {claim:?}: {} is a {format} image, and a volume is raw bytes; \
         `qemu-img convert -O raw {} DISK.raw` converts it",
        path.display(), path.display()
    )]
    Format {
        claim: String,
        path: PathBuf,
        format: &'static str,
    },

    /// One thing would play two claims.
    #[error(
        "{} plays both claims {first:?} and {second:?}; give each a device or image of its own",
        path.display()
    )]
    SameDevice {
        first: String,
        second: String,
        path: PathBuf,
    },

    /// `--volume` twice for one claim.
    #[error("--volume names claim {claim:?} twice; give it one path")]
    Repeated { claim: String },

    /// `--volume` for a claim that is in no manifest.
    #[error(
        "--volume {claim:?}: no manifest has a PersistentVolumeClaim of that name (there is: \
         {known})"
    )]
    UnknownClaim { claim: String, known: String },

    /// `--volume` for a claim that the VM does not use.
    #[error("--volume {claim:?}: the VM uses no claim of that name (it uses: {used})")]
    UnusedClaim { claim: String, used: String },

    /// The VM uses a claim whose manifest is missing.
    #[error(
        "the VM uses claim {claim:?}, which no manifest has; add its PersistentVolumeClaim to \
         the files"
    )]
    ClaimMissing { claim: String },

    /// The VM uses a claim that nothing plays.
    #[error(
        "the VM uses claim {claim:?}, and nothing plays it; add `--volume {claim}=PATH` with \
         {hint}"
    )]
    NotGiven { claim: String, hint: &'static str },

    /// The loop device cannot be set up.
    #[error("volume {claim:?}: {} cannot be attached to a loop device", path.display())]
    Loop {
        claim: String,
        path: PathBuf,
        source: io::Error,
    },

    /// A loop device cannot be freed.
    #[error("loop device {} cannot be freed", path.display())]
    Free { path: PathBuf, source: io::Error },

    /// A loop device is still open somewhere.
    #[error(
        "loop device {} is still open elsewhere (`fuser -v {}` says where); it is freed when \
         that ends",
        path.display(), path.display()
    )]
    StillOpen { path: PathBuf },

    /// The VM's device node cannot be made or removed.
    #[error("device node {} cannot be made or removed; this needs root (CAP_MKNOD)", path.display())]
    Node { path: PathBuf, source: io::Error },

    /// What the kernel says about its devices cannot be read.
    #[error("{} cannot be read", path.display())]
    Kernel { path: PathBuf, source: io::Error },
}

impl VolumeError {
    /// Whether the manifests or the command line are wrong, rather than what
    /// this machine has.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::UnknownMode { .. }
                | Self::Request { .. }
                | Self::SameDevice { .. }
                | Self::Repeated { .. }
                | Self::UnknownClaim { .. }
                | Self::UnusedClaim { .. }
                | Self::ClaimMissing { .. }
                | Self::NotGiven { .. }
        )
    }
}
