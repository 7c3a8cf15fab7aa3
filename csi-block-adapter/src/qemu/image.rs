//! The nodes of a disk in a container image.
//!
//! ```text
//! guest's device ── diskN (qcow2, the overlay) ── diskN-overlay (file)
//!                     └ backing: diskN-base (qcow2) ── diskN-image (file, read-only)
//! ```
//!
//! Of a raw image the file itself is the backing node; of a disk that is only
//! read there is no overlay. Every format is named, and every backing file is
//! given by its node or refused (`null`), so that no image leads anywhere.

use coracle_api::{machine::Disk, types::DiscardMode};
use serde::Serialize;

use super::{
    Place,
    blockdev::{Blockdev, Cache, DetectZeroes, Discard, top_name},
    node_name,
};
use crate::{
    device::{DeviceFacts, Format, ImageFacts},
    qemu::Host,
};

/// Most memory for the second tables of a qcow2 file: enough for 32 GiB of the
/// disk at once. It is part of what the pod is given beside the guest's memory.
const L2_CACHE: u64 = 4 << 20;

/// What is below and above the file that is read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The image under an overlay: its file, and its format unless that is raw.
    pub base: Option<(Blockdev, Option<Qcow2>)>,
    /// The format of the file that is read or written.
    pub top: Qcow2,
}

/// A `-blockdev` with driver `qcow2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Qcow2 {
    driver: &'static str,
    node_name: String,
    /// Name of the file's node.
    file: String,
    /// Name of the node under it; `null` for none, whatever the file says.
    backing: Option<String>,
    cache: Cache,
    discard: Discard,
    detect_zeroes: DetectZeroes,
    read_only: bool,
    auto_read_only: bool,
    l2_cache_size: u64,
}

/// The file that is read or written, and what more there is where the disk is
/// in a container image.
pub(super) fn nodes(
    disk: &Disk,
    place: Place,
    facts: &DeviceFacts,
    host: Host,
) -> (Blockdev, Option<Image>) {
    let file = Blockdev::new(disk, place, facts, host);
    match &facts.image {
        None => (file, None),
        Some(image) => match &image.overlay {
            None => only_read(disk, place, file, image),
            Some(overlay) => under_overlay(disk, place, file, image, overlay),
        },
    }
}

fn only_read(
    disk: &Disk,
    place: Place,
    file: Blockdev,
    image: &ImageFacts,
) -> (Blockdev, Option<Image>) {
    match image.format {
        Format::Raw => (file, None),
        Format::Qcow2 => {
            let file = below(file, place, "image");
            let top = qcow2(disk, top_name(disk, place), &file, None);
            (file, Some(Image { base: None, top }))
        }
    }
}

fn under_overlay(
    disk: &Disk,
    place: Place,
    file: Blockdev,
    image: &ImageFacts,
    overlay: &str,
) -> (Blockdev, Option<Image>) {
    let reading = Disk {
        read_only: true,
        discard: DiscardMode::Ignore,
        ..disk.clone()
    };
    let base_file = Blockdev {
        read_only: true,
        discard: Discard::Ignore,
        ..below(file.clone(), place, "image")
    };
    let base = (image.format == Format::Qcow2).then(|| Qcow2 {
        detect_zeroes: DetectZeroes::Off,
        ..qcow2(&reading, name(place, "base"), &base_file, None)
    });
    let file = Blockdev {
        filename: overlay.to_owned(),
        ..below(file, place, "overlay")
    };
    let backing = base
        .as_ref()
        .map_or(&base_file.node_name, |base| &base.node_name);
    let top = qcow2(disk, top_name(disk, place), &file, Some(backing.clone()));
    let base = Some((base_file, base));
    (file, Some(Image { base, top }))
}

fn name(place: Place, part: &str) -> String {
    format!("{}-{part}", node_name(place.index))
}

/// A file's node under that of its format, which looks for zeroes itself.
fn below(file: Blockdev, place: Place, part: &str) -> Blockdev {
    Blockdev {
        node_name: name(place, part),
        detect_zeroes: DetectZeroes::Off,
        ..file
    }
}

fn qcow2(disk: &Disk, node_name: String, file: &Blockdev, backing: Option<String>) -> Qcow2 {
    Qcow2 {
        driver: "qcow2",
        node_name,
        file: file.node_name.clone(),
        backing,
        cache: Cache::of(disk),
        discard: Discard::of(disk),
        detect_zeroes: DetectZeroes::of(disk),
        read_only: disk.read_only,
        auto_read_only: false,
        l2_cache_size: L2_CACHE,
    }
}

impl Image {
    /// The options' arguments: those before the file's, and those behind it.
    pub(super) fn to_json(&self) -> (Vec<String>, Vec<String>) {
        let base = self.base.iter().flat_map(|(file, format)| {
            let format = format.iter().map(Qcow2::to_json);
            [file.to_json()].into_iter().chain(format)
        });
        (base.collect(), vec![self.top.to_json()])
    }
}

impl Qcow2 {
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and bools serialize")
    }
}
