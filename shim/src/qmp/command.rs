//! The commands that the shim gives.

use std::fmt;

use coracle_block::qemu::node_name;

/// A QMP command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Ends the capabilities negotiation.
    Capabilities,
    /// Asks for the run state.
    QueryStatus,
    /// Lets the virtual CPUs run.
    Cont,
    /// Stops the virtual CPUs.
    Stop,
    /// Presses the ACPI power button.
    Powerdown,
    /// Ends qemu.
    Quit,
    /// Tells the guest that a disk has another size.
    BlockResize {
        /// The disk's place among the disks.
        disk: usize,
        /// Its size in bytes.
        size: u64,
    },
}

impl Command {
    /// Its name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Capabilities => "qmp_capabilities",
            Self::QueryStatus => "query-status",
            Self::Cont => "cont",
            Self::Stop => "stop",
            Self::Powerdown => "system_powerdown",
            Self::Quit => "quit",
            Self::BlockResize { .. } => "block_resize",
        }
    }

    /// The line to send.
    pub(crate) fn to_line(self, id: u64) -> String {
        let arguments = match self {
            Self::BlockResize { disk, size } => format!(
                ",\"arguments\":{{\"node-name\":\"{}\",\"size\":{size}}}",
                node_name(disk)
            ),
            Self::Capabilities
            | Self::QueryStatus
            | Self::Cont
            | Self::Stop
            | Self::Powerdown
            | Self::Quit => String::new(),
        };
        let name = self.name();
        format!("{{\"execute\":\"{name}\"{arguments},\"id\":{id}}}\n")
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
