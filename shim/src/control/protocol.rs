//! What is said on the control socket.

use coracle_api::report::State;
use serde::{Deserialize, Serialize};

use crate::{console::Access, lifecycle::Request};

/// The longest request, in bytes.
pub const REQUEST_MAX: usize = 1024;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "lowercase", deny_unknown_fields)]
pub enum Call {
    /// Report the state.
    State {},
    /// Run the guest.
    Start {},
    /// Stop the virtual CPUs.
    Pause {},
    /// Let them run again.
    Resume {},
    /// End the VM.
    Kill {
        /// How.
        signal: Signal,
    },
    /// Forget a VM that has ended.
    Delete {
        /// End it first, if need be.
        force: bool,
    },
    /// Turn the connection into the serial console.
    Console {
        /// Take no input.
        read_only: bool,
    },
}

/// How a VM is ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// The ACPI power button, and `quit` when the guest's time is up.
    #[default]
    #[value(name = "TERM", aliases = ["SIGTERM", "15"])]
    Term,
    /// `quit` at once.
    #[value(name = "KILL", aliases = ["SIGKILL", "9"])]
    Kill,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum Answer {
    /// It is done, or was so already.
    Done {},
    /// The state.
    State(Box<State>),
    /// It cannot be done.
    Refused {
        /// Why not.
        message: String,
    },
}

impl Call {
    /// The change of state that it asks for, if it is that kind of request.
    pub(super) fn request(self) -> Option<Request> {
        match self {
            Self::Start {} => Some(Request::Start),
            Self::Pause {} => Some(Request::Pause),
            Self::Resume {} => Some(Request::Resume),
            Self::Kill {
                signal: Signal::Term,
            } => Some(Request::Term),
            Self::Kill {
                signal: Signal::Kill,
            } => Some(Request::Kill),
            Self::State {} | Self::Delete { .. } | Self::Console { .. } => None,
        }
    }
}

impl Answer {
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::Refused {
            message: message.into(),
        }
    }
}

/// What a console client may do.
pub(super) fn access(read_only: bool) -> Access {
    if read_only {
        Access::Listen
    } else {
        Access::ListenAndSend
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_short_line_and_reads_back() {
        for call in [
            Call::State {},
            Call::Kill {
                signal: Signal::Kill,
            },
            Call::Delete { force: true },
            Call::Console { read_only: false },
        ] {
            let line = serde_json::to_string(&call).expect("JSON");
            assert!(line.len() < REQUEST_MAX && !line.contains('\n'));
            assert_eq!(serde_json::from_str::<Call>(&line).expect("reads"), call);
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let line = r#"{"call": "kill", "signal": "TERM", "after": 5}"#;
        assert!(serde_json::from_str::<Call>(line).is_err());
    }
}
