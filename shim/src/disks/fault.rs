//! An error that a disk's device returned, and how it is told.

use coracle_api::report::{DiskFault, DiskState};
use tracing::{error, warn};

/// An error that a disk's device returned (QMP `BLOCK_IO_ERROR`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// qemu's name of the disk's block node.
    pub node: String,
    /// `read` or `write`.
    pub operation: String,
    /// What the host said.
    pub reason: String,
    /// Whether space ran out.
    pub no_space: bool,
    /// Whether the guest was stopped on it.
    pub stops: bool,
}

impl Fault {
    /// Records it as the disk's last, and logs it. A guest that goes on can
    /// cause any number of errors: of those only each one that doubles their
    /// number is logged.
    pub(super) fn record(&self, state: &mut DiskState) {
        let count = state.last_error.as_ref().map_or(0, |error| error.count) + 1;
        state.last_error = Some(DiskFault {
            operation: self.operation.clone(),
            reason: self.reason.clone(),
            no_space: self.no_space,
            stopped: self.stops,
            count,
        });
        let Self {
            operation, reason, ..
        } = self;
        let disk = &state.name;
        match (self.stops, self.no_space) {
            (true, true) => error!(
                disk,
                operation, reason, "the disk has no room: the guest waits until it has"
            ),
            (true, false) => error!(
                disk,
                operation,
                reason,
                "disk error: the guest waits and is let try again by itself, at first every few \
                 seconds, later every 5 min; `coracle-shim resume` tries at once"
            ),
            (false, _) if count.is_power_of_two() => {
                warn!(
                    disk,
                    operation, reason, count, "disk error: the guest was told"
                );
            }
            (false, _) => {}
        }
    }
}
