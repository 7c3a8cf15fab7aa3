//! Disks in container images: goldens, and the rules of their nodes.

use std::collections::BTreeSet;

use super::*;
use crate::device::{Format, ImageFacts};

const IMAGE: &str = "/var/lib/coracle/images/root/disk/root.img";
const OVERLAY: &str = "/var/lib/coracle/ephemeral/root/overlay-1.qcow2";

fn image_disk(format: Format, overlay: bool) -> (Disk, DeviceFacts) {
    let disk = Disk {
        read_only: !overlay,
        ..disk(DiskSource::Image {
            root: "/var/lib/coracle/images/root".into(),
            path: None,
            overlay: overlay.then(|| "/var/lib/coracle/ephemeral/root".into()),
            size_bytes: None,
        })
    };
    let image = Some(ImageFacts {
        format,
        overlay: overlay.then(|| OVERLAY.into()),
        replaced: false,
    });
    let facts = DeviceFacts {
        image,
        ..file_facts(IMAGE)
    };
    (disk, facts)
}

#[test]
fn every_format_with_and_without_an_overlay() {
    let mut text = String::new();
    for format in [Format::Raw, Format::Qcow2] {
        for overlay in [false, true] {
            let (mut disk, facts) = image_disk(format, overlay);
            let lines = render(&options(&disk, FIRST, &facts, host(1)));
            let what = if overlay {
                "under an overlay"
            } else {
                "read-only"
            };
            writeln!(text, "# {format:?}, {what}\n{lines}").expect("writes to a string");
            if format == Format::Qcow2 && overlay {
                disk.throttle = Some(limits(500, None, 10 << 20));
                disk.detect_zeroes = Zeroes::Unmap;
                let lines = render(&options(&disk, FIRST, &facts, host(1)));
                writeln!(
                    text,
                    "# the same with limits, zeroes become discards\n{lines}"
                )
                .expect("writes to a string");
            }
        }
    }
    insta::assert_snapshot!("images", text.trim_end());
}

#[test]
fn what_a_disk_in_an_image_is_made_of_is_told() {
    let (disk, facts) = image_disk(Format::Qcow2, true);
    let decided = decisions(&disk, &facts, host(1));
    let image = decided.iter().find(|decision| decision.setting == "image");
    let image = image.expect("is decided");
    assert_eq!(image.value, "qcow2 under an overlay");
    assert!(image.why.contains(OVERLAY), "{}", image.why);
}

/// The nodes of the arguments, in their order.
fn nodes(options: &DiskOptions) -> Vec<serde_json::Value> {
    let arguments = options.to_arguments();
    let blockdevs = arguments.chunks(2).filter(|pair| pair[0] == "-blockdev");
    blockdevs
        .map(|pair| serde_json::from_str(&pair[1]).expect("is JSON"))
        .collect()
}

proptest! {
    /// Whatever the disk: what a guest can write to is the overlay alone, no
    /// format is left to qemu, no file leads to another, and each node is
    /// there before the one that refers to it.
    #[test]
    fn an_image_is_never_written_to(
        disk in any_disk(),
        qcow2 in any::<bool>(),
        index in 0usize..100,
    ) {
        let format = if qcow2 { Format::Qcow2 } else { Format::Raw };
        let (_, facts) = image_disk(format, !disk.read_only);
        let place = Place { index, sata_port: index % SATA_PORTS };
        let options = options(&disk, place, &facts, host(2));
        let mut there = BTreeSet::new();
        for node in nodes(&options) {
            let file = node["filename"].as_str();
            prop_assert!(matches!(file, None | Some(IMAGE | OVERLAY)));
            prop_assert!(file != Some(IMAGE) || node["read-only"] == true);
            prop_assert!(file.is_none() || node["driver"] == "file");
            prop_assert_eq!(&node["auto-read-only"], false);
            if node["driver"] == "qcow2" {
                prop_assert!(node.get("backing").is_some(), "it could name one itself");
            }
            for reference in ["file", "backing"] {
                if let Some(name) = node[reference].as_str() {
                    prop_assert!(there.contains(name), "{name} is not there yet");
                }
            }
            there.insert(node["node-name"].as_str().expect("is named").to_owned());
        }
        prop_assert!(there.contains(&options.device.drive));
    }
}
