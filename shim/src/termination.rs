//! The last thing the shim does: it says why, for the kubelet in the
//! termination message, for a reader of the log in one line, and for the
//! restart rules in the exit code.

use std::{error::Error, fs, path::Path};

use coracle_api::report::{TerminationMessage, TerminationReason};
use tracing::{error, info, warn};

/// The message with what was wrong with the disks when the VM ended: whoever
/// reads why it ended sees that too.
#[must_use]
pub fn with_troubles(
    mut termination: TerminationMessage,
    troubles: &[String],
) -> TerminationMessage {
    for trouble in troubles {
        termination.message.push_str("; ");
        termination.message.push_str(trouble);
    }
    termination
}

/// Tells why the VM ended; the exit code that goes with it.
pub fn report(termination: &TerminationMessage, log: &Path) -> u8 {
    let TerminationMessage {
        reason, message, ..
    } = termination;
    let code = reason.exit_code();
    if code == 0 {
        info!(?reason, "{message}");
    } else {
        error!(?reason, "{message}");
    }
    if let Err(error) = fs::write(log, termination.to_json()) {
        warn!(%error, path = %log.display(), "the termination message cannot be written");
    }
    code
}

/// An error with its causes in one line, outermost first.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// The termination message for an error of the host.
#[must_use]
pub fn host_failure(error: &(dyn Error + 'static)) -> TerminationMessage {
    TerminationMessage {
        reason: TerminationReason::HostFailed,
        message: chain(error),
        disk: None,
    }
}
