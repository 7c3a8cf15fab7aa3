//! What `coracle-block` prints: for people a short table, for programs JSON.

use std::fmt;

use coracle_api::machine::Disk;
use coracle_block::{
    device::{DeviceFacts, Discard, Holder, Kind},
    qemu::{self, Place},
};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Report<'a> {
    #[serde(flatten)]
    facts: &'a DeviceFacts,
    /// Who has the disk, as far as it can be seen.
    holders: Vec<Holder>,
    /// qemu's arguments, as for the first disk of a VM with one virtual CPU.
    qemu: [String; 4],
}

impl<'a> Report<'a> {
    pub(crate) fn new(disk: &Disk, facts: &'a DeviceFacts, holders: Vec<Holder>) -> Self {
        let options = qemu::options(
            disk,
            Place {
                index: 0,
                sata_port: 0,
            },
            facts,
            1,
        );
        let blockdev = options.blockdev.to_json();
        let device = options.device.to_argument();
        Self {
            facts,
            holders,
            qemu: ["-blockdev".into(), blockdev, "-device".into(), device],
        }
    }

    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.facts;
        let [_, blockdev, _, device] = &self.qemu;
        writeln!(f, "{}", facts.path)?;
        match facts.kind {
            Kind::Block { major, minor } => {
                writeln!(f, "  kind       block device {major}:{minor}")
            }
            Kind::File => writeln!(f, "  kind       image file"),
        }?;
        writeln!(
            f,
            "  size       {} ({} bytes)",
            readable(facts.size_bytes),
            facts.size_bytes
        )?;
        writeln!(
            f,
            "  sectors    {} bytes logical, {} bytes physical",
            facts.logical_block_size, facts.physical_block_size
        )?;
        let medium = match facts.rotational {
            Some(true) => "rotating",
            Some(false) => "solid state",
            None => "unknown",
        };
        writeln!(f, "  medium     {medium}")?;
        match facts.discard {
            Discard::Unknown => writeln!(f, "  discard    unknown"),
            Discard::Unsupported => writeln!(f, "  discard    not supported"),
            Discard::Supported { granularity_bytes } => {
                writeln!(f, "  discard    in units of {granularity_bytes} bytes")
            }
        }?;
        writeln!(
            f,
            "  read-only  {}",
            if facts.read_only { "yes" } else { "no" }
        )?;
        match (self.holders.as_slice(), facts.kind) {
            ([], Kind::File) => writeln!(f, "  in use     no")?,
            // Another VM's descriptor, say.
            ([], Kind::Block { .. }) => {
                writeln!(f, "  in use     by nothing that can be seen from here")?;
            }
            (holders, _) => {
                for holder in holders {
                    writeln!(f, "  in use     {holder}")?;
                }
            }
        }
        writeln!(f, "  qemu       -blockdev '{blockdev}' \\")?;
        write!(f, "             -device {device}")
    }
}

/// A size as people read it.
fn readable(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = "bytes";
    let mut tenths = u128::from(bytes) * 10;
    for next in UNITS {
        if tenths < 10240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn sizes_are_readable() {
        for (bytes, text) in [
            (512, "512.0 bytes"),
            (1024, "1.0 KiB"),
            (1536 << 20, "1.5 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(readable(bytes), text);
        }
    }
}
