//! Devices of the node in a machine description.

use serde::{Deserialize, Serialize};

/// A device of the node for the guest. Which one it is, the environment says
/// that the resource's device plugin gave the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// Unique in the VM; a DNS label.
    pub name: String,
    /// The extended resource of which it is one unit.
    pub resource: String,
}
