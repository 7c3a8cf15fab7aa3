//! The inspection for people.

use std::fmt;

use super::{InspectedDevice, InspectedResource, Inspection};
use crate::check::Checked;

impl Inspection {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("names and numbers serialize")
    }
}

fn there(there: bool) -> &'static str {
    if there { "there" } else { "not there" }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.kubelet_socket.display();
        writeln!(f, "kubelet      {socket} ({})", there(self.kubelet_present))?;
        write!(f, "given by     {}", self.grant)?;
        if let Some(config) = &self.config {
            write!(f, "\nconfig       {}", config.display())?;
        }
        for reason in self.missing.iter().flat_map(|reason| reason.lines()) {
            write!(f, "\nmissing      {reason}")?;
        }
        for resource in &self.resources {
            write!(f, "\n\n{resource}")?;
        }
        Ok(())
    }
}

impl fmt::Display for InspectedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "resource     {} ({})", self.resource, self.kind)?;
        write!(f, "allocatable  {} of {}", self.allocatable, self.capacity)?;
        if let Some(level) = self.probe {
            write!(f, "\nprobe        {level}")?;
        }
        if let Some(speed) = self.instructions_per_second {
            let millions = speed / 1_000_000;
            write!(f, " ({millions} million kernel instructions per second)")?;
        }
        for device in &self.devices {
            write!(f, "\ndevice       {device}")?;
        }
        for reason in &self.missing {
            write!(f, "\nmissing      {reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for InspectedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        if let Some(slots) = self.slots {
            write!(f, ", {slots} slots")?;
        }
        f.write_str(if self.healthy {
            ", healthy"
        } else {
            ", unhealthy"
        })?;
        if let Some(group) = self.iommu_group {
            write!(f, ", IOMMU group {group}")?;
        }
        if let Some(numa) = self.numa_node {
            write!(f, ", NUMA node {numa}")?;
        }
        for node in &self.nodes {
            let Checked { major, minor } = node.numbers;
            let (from, ready) = (node.from.display(), there(node.ready));
            write!(
                f,
                "\n             {} ({major}:{minor}) from {from} ({ready})",
                node.path
            )?;
        }
        Ok(())
    }
}
