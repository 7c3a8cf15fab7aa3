//! The commands that the shim gives.

use std::fmt;

/// A QMP command. All that the shim uses go without arguments.
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
        }
    }

    /// The line to send.
    pub(crate) fn to_line(self, id: u64) -> String {
        format!("{{\"execute\":\"{}\",\"id\":{id}}}\n", self.name())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
