//! What is found for the machines.

use std::path::Path;

use coracle_api::machine::{Disk, DiskSource, Machine};
use coracle_block::device::{DeviceFacts, Discard, Format, ImageFacts, Kind, ScsiFacts};
use coracle_block::uring::NoIoUring;

use crate::prepare::{Found, FoundDisk};

/// What is found for a machine whose devices and files are plain ones.
pub(crate) fn found(machine: &Machine) -> Found {
    let found = |disk: &Disk| {
        let seed = format!("/run/coracle/seed-{}.img", disk.name);
        let disk = crate::prepare::resolved(disk, Path::new(&seed));
        let facts = facts(&disk.source);
        FoundDisk { disk, facts }
    };
    Found {
        devices: vec![],
        disks: machine.disks.iter().map(found).collect(),
        guards: vec![],
        arch_capabilities: true,
        // As in a container with the runtime's default profile.
        io_uring: Err(NoIoUring::Sandbox),
    }
}

fn facts(source: &DiskSource) -> DeviceFacts {
    let (path, kind, discard) = match source {
        DiskSource::Block { path } => (
            path,
            Kind::Block { major: 7, minor: 0 },
            Discard::Supported {
                granularity_bytes: 4096,
            },
        ),
        DiskSource::File { path, .. } | DiskSource::Ephemeral { path, .. } => {
            (path, Kind::File, Discard::Unknown)
        }
        DiskSource::Image { root, .. } => (root, Kind::File, Discard::Unknown),
        DiskSource::CloudInit { .. } => unreachable!("a seed is a file by now"),
    };
    DeviceFacts {
        path: path.clone(),
        kind,
        size_bytes: 1 << 20,
        logical_block_size: 512,
        physical_block_size: 512,
        rotational: None,
        discard,
        read_only: false,
        disk_sequence: None,
        scsi: ScsiFacts::default(),
        image: image(source),
    }
}

fn image(source: &DiskSource) -> Option<ImageFacts> {
    let DiskSource::Image { overlay, .. } = source else {
        return None;
    };
    Some(ImageFacts {
        format: Format::Qcow2,
        overlay: overlay
            .as_ref()
            .map(|directory| format!("{directory}/overlay.qcow2")),
        replaced: false,
    })
}
