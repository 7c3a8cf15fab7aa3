//! What can be told about one disk by reading its description.

use std::path::Path;

use coracle_api::machine::{BlockSize, Disk, DiskSource};
use coracle_block::qemu::Impossible;

use super::super::disks;
use super::text;

/// Sector sizes that qemu can show to a guest, in bytes.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 512..=32768;

/// What is wrong with one disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskProblem {
    /// The serial number cannot be shown to the guest.
    #[error("the serial number {value:?} is not 1 to 20 characters of A-Z, a-z, 0-9, _ . + -")]
    Serial {
        /// What it says.
        value: String,
    },
    /// The boot order starts at 1.
    #[error("the boot index is 0; the first is 1")]
    BootIndex,
    /// Sector sizes that no disk has.
    #[error(
        "sectors of {} bytes in units of {} are not powers of two from 512 to 32768, the first \
         at most the second",
        size.logical,
        size.physical
    )]
    BlockSize {
        /// What it says.
        size: BlockSize,
    },
    /// Its fields do not go together.
    #[error(transparent)]
    Combination(Impossible),
    /// The path holds the character no path can.
    #[error("the path holds a NUL character")]
    Nul,
}

/// Everything that is wrong with `disk` by itself.
pub(super) fn check(disk: &Disk) -> Vec<DiskProblem> {
    let mut problems = Vec::new();
    if !text::is_serial(&disk.serial) {
        problems.push(DiskProblem::Serial {
            value: disk.serial.clone(),
        });
    }
    if disk.boot_index == Some(0) {
        problems.push(DiskProblem::BootIndex);
    }
    if let Some(size) = disk.block_size.filter(|size| !possible(*size)) {
        problems.push(DiskProblem::BlockSize { size });
    }
    let as_opened = disks::resolved(disk, Path::new(""));
    problems.extend(
        coracle_block::qemu::check(&as_opened)
            .err()
            .map(DiskProblem::Combination),
    );
    if paths(&disk.source).any(|path| path.contains('\0')) {
        problems.push(DiskProblem::Nul);
    }
    problems
}

fn paths(source: &DiskSource) -> impl Iterator<Item = &String> {
    let (path, more) = match source {
        DiskSource::Block { path }
        | DiskSource::File { path, .. }
        | DiskSource::Ephemeral { path, .. } => (Some(path), [None, None]),
        DiskSource::Image {
            root,
            path,
            overlay,
            ..
        } => (Some(root), [path.as_ref(), overlay.as_ref()]),
        DiskSource::CloudInit { .. } => (None, [None, None]),
    };
    path.into_iter().chain(more.into_iter().flatten())
}

fn possible(size: BlockSize) -> bool {
    let possible = |bytes: u32| bytes.is_power_of_two() && BLOCK_SIZES.contains(&bytes);
    possible(size.logical) && possible(size.physical) && size.logical <= size.physical
}
