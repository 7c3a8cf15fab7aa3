//! The events and states that mean something to the shim. Spec: qemu
//! `qapi/run-state.json` and `qapi/block-core.json`.

use serde_json::Value;

use crate::disks::Fault;

/// An event from qemu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// qemu is about to end.
    Shutdown(ShutdownCause),
    /// The guest's kernel reported a panic.
    GuestPanicked,
    /// The virtual CPUs were stopped.
    Stop,
    /// The virtual CPUs run again.
    Resume,
    /// The guest was reset.
    Reset,
    /// A disk's device returned an error.
    BlockIoError(Fault),
    /// Another event, by its name.
    Other(String),
}

/// Who ended the machine (qemu's `ShutdownCause`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownCause {
    /// The guest powered itself off, or reset where that ends qemu.
    Guest,
    /// The guest's kernel panicked.
    GuestPanic,
    /// The `quit` command.
    Quit,
    /// A signal that qemu got.
    Signal,
    /// qemu found an error, or gave a cause that is not known here.
    Other,
}

impl Event {
    /// Reads an event; what is unknown or misshapen becomes [`Event::Other`].
    #[must_use]
    pub fn new(name: String, data: &Value) -> Self {
        let text = |field: &str| data[field].as_str().unwrap_or("unknown").to_owned();
        match name.as_str() {
            "SHUTDOWN" => Self::Shutdown(match data["reason"].as_str() {
                Some("guest-shutdown" | "guest-reset") => ShutdownCause::Guest,
                Some("guest-panic") => ShutdownCause::GuestPanic,
                Some("host-qmp-quit") => ShutdownCause::Quit,
                Some("host-signal") => ShutdownCause::Signal,
                _ if data["guest"] == true => ShutdownCause::Guest,
                _ => ShutdownCause::Other,
            }),
            "GUEST_PANICKED" => Self::GuestPanicked,
            "STOP" => Self::Stop,
            "RESUME" => Self::Resume,
            "RESET" => Self::Reset,
            "BLOCK_IO_ERROR" => Self::BlockIoError(Fault {
                node: text("node-name"),
                operation: text("operation"),
                reason: text("reason"),
                no_space: data["nospace"] == true,
                stops: data["action"] == "stop",
            }),
            _ => Self::Other(name),
        }
    }
}

/// qemu's run state, as far as it makes a difference here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// The virtual CPUs run.
    Running,
    /// They were stopped by a command.
    Paused,
    /// They were stopped because a disk returned an error.
    IoError,
    /// The accelerator cannot go on with the guest.
    InternalError,
    /// The guest panicked.
    GuestPanicked,
    /// Something else.
    Other,
}

impl RunStatus {
    /// Reads what `query-status` returned.
    #[must_use]
    pub fn new(value: &Value) -> Self {
        match value["status"].as_str() {
            Some("running") => Self::Running,
            Some("paused" | "prelaunch") => Self::Paused,
            Some("io-error") => Self::IoError,
            Some("internal-error") => Self::InternalError,
            Some("guest-panicked") => Self::GuestPanicked,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_cause_of_a_shutdown_is_read() {
        for (data, cause) in [
            (
                json!({"guest": true, "reason": "guest-shutdown"}),
                ShutdownCause::Guest,
            ),
            (
                json!({"guest": true, "reason": "guest-panic"}),
                ShutdownCause::GuestPanic,
            ),
            (
                json!({"guest": false, "reason": "host-qmp-quit"}),
                ShutdownCause::Quit,
            ),
            (
                json!({"guest": false, "reason": "host-signal"}),
                ShutdownCause::Signal,
            ),
            (
                json!({"guest": true, "reason": "of-tomorrow"}),
                ShutdownCause::Guest,
            ),
            (json!(null), ShutdownCause::Other),
        ] {
            assert_eq!(
                Event::new("SHUTDOWN".into(), &data),
                Event::Shutdown(cause),
                "{data}"
            );
        }
    }

    #[test]
    fn an_unknown_event_keeps_its_name() {
        let event = Event::new("MOON_RISES".into(), &json!(7));
        assert_eq!(event, Event::Other("MOON_RISES".into()));
    }

    #[test]
    fn a_disk_error_without_its_fields_is_still_one() {
        assert!(matches!(
            Event::new("BLOCK_IO_ERROR".into(), &json!([])),
            Event::BlockIoError(Fault { stops: false, .. })
        ));
    }
}
