//! What `coracle-block` prints: for people a short table, for programs JSON.

use std::fmt;

use coracle_api::{machine::Disk, report::Decision};
use coracle_block::{
    device::{Content, DeviceFacts, Discard, Holder, Kind},
    qemu::{self, Host, Place},
};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Report<'a> {
    #[serde(flatten)]
    facts: &'a DeviceFacts,
    /// Who has the disk, as far as it can be seen.
    holders: Vec<Holder>,
    /// What it holds, where that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content>,
    /// qemu's arguments, as for the first disk of a VM with one virtual CPU.
    qemu: Vec<String>,
    /// What was decided, and why.
    decisions: Vec<Decision>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(
        disk: &Disk,
        facts: &'a DeviceFacts,
        holders: Vec<Holder>,
        host: Host,
    ) -> Self {
        let options = qemu::options(
            disk,
            Place {
                index: 0,
                sata_port: 0,
            },
            facts,
            host,
        );
        Self {
            facts,
            holders,
            content: None,
            qemu: options.to_arguments(),
            decisions: qemu::decisions(disk, facts, host),
        }
    }

    pub(crate) fn with_content(self, content: Content) -> Self {
        Self {
            content: Some(content),
            ..self
        }
    }

    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

impl Report<'_> {
    fn show_holders(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.holders.as_slice(), self.facts.kind) {
            ([], Kind::File) => writeln!(f, "  in use       no")?,
            // Another VM's descriptor, say.
            ([], Kind::Block { .. }) => {
                writeln!(f, "  in use       by nothing that can be seen from here")?;
            }
            (holders, _) => {
                for holder in holders {
                    writeln!(f, "  in use       {holder}")?;
                }
            }
        }
        Ok(())
    }

    fn show_decisions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for decision in &self.decisions {
            let Decision {
                setting,
                value,
                why,
            } = decision;
            writeln!(f, "  {setting:<12} {value}: {why}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.facts;
        writeln!(f, "{}", facts.path)?;
        match facts.kind {
            Kind::Block { major, minor } => {
                writeln!(f, "  kind         block device {major}:{minor}")
            }
            Kind::File => writeln!(f, "  kind         image file"),
        }?;
        writeln!(
            f,
            "  size         {} ({} bytes)",
            readable(facts.size_bytes),
            facts.size_bytes
        )?;
        writeln!(
            f,
            "  sectors      {} bytes logical, {} bytes physical",
            facts.logical_block_size, facts.physical_block_size
        )?;
        let medium = match facts.rotational {
            Some(true) => "rotating",
            Some(false) => "solid state",
            None => "unknown",
        };
        writeln!(f, "  medium       {medium}")?;
        match facts.discard {
            Discard::Unknown => writeln!(f, "  discard      unknown"),
            Discard::Unsupported => writeln!(f, "  discard      not supported"),
            Discard::Supported { granularity_bytes } => {
                writeln!(f, "  discard      in units of {granularity_bytes} bytes")
            }
        }?;
        writeln!(
            f,
            "  read-only    {}",
            if facts.read_only { "yes" } else { "no" }
        )?;
        self.show_holders(f)?;
        if let Some(content) = &self.content {
            show(content, f)?;
        }
        self.show_decisions(f)?;
        let arguments = self.qemu.chunks_exact(2);
        let arguments: Vec<String> = arguments
            .map(|pair| format!("{} '{}'", pair[0], pair[1]))
            .collect();
        write!(
            f,
            "  qemu         {}",
            arguments.join(" \\\n               ")
        )
    }
}

fn show(content: &Content, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for signature in &content.signatures {
        writeln!(f, "  holds        {signature}")?;
    }
    match &content.partition_table {
        Some(table) => writeln!(
            f,
            "  partitions   {} ({})",
            table.partitions.len(),
            table.kind
        )?,
        None if content.blank => writeln!(f, "  holds        nothing: it begins with zeroes only")?,
        None if content.signatures.is_empty() => {
            writeln!(f, "  holds        data without a known mark")?;
        }
        None => {}
    }
    for part in content
        .partition_table
        .iter()
        .flat_map(|table| &table.partitions)
    {
        let marks = match part.signatures.as_slice() {
            [] => "no known mark".to_owned(),
            marks => marks.join(", "),
        };
        let (number, size) = (part.number, readable(part.size_bytes));
        writeln!(
            f,
            "    {number:<10} {size} from byte {}: {marks}",
            part.start_bytes
        )?;
    }
    Ok(())
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
