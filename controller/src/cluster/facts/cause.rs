//! What ended a VM, as its run policy goes by it.

use coracle_api::names::exit;
use coracle_api::report::TerminationReason;
use coracle_api::vm::{ConditionReason, Termination};

use super::word;

/// What ended a VM, which decides whether it starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The guest powered itself off.
    GuestOff,
    /// It was asked to stop, or its pod was deleted: the node was drained, say.
    Asked,
    /// The guest or qemu crashed, or the container was killed.
    Crash,
    /// The manifest is wrong: starting again would not help.
    Config,
    /// The host lacks something.
    Host,
    /// The container with the guest never ran.
    Rejected,
}

impl Cause {
    /// The cause behind a termination.
    #[must_use]
    pub fn of(termination: &Termination) -> Self {
        let asked = [TerminationReason::Stopped, TerminationReason::Killed];
        if termination.reason == word(&ConditionReason::PodLost) {
            return Self::Asked;
        }
        // Nothing of the guest ran, and a server may be well again.
        if termination.reason == word(&TerminationReason::ImportFailed) {
            return Self::Rejected;
        }
        let code = termination.exit_code.map(u8::try_from);
        match code {
            None => Self::Rejected,
            Some(Ok(exit::OK)) if asked.iter().any(|r| word(r) == termination.reason) => {
                Self::Asked
            }
            Some(Ok(exit::OK)) => Self::GuestOff,
            Some(Ok(exit::CONFIG)) => Self::Config,
            Some(Ok(exit::HOST)) => Self::Host,
            Some(_) => Self::Crash,
        }
    }
}
