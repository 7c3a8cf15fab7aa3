//! Who holds what, shared by the registrations that give it out and by the
//! task that decides what is offered.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::holdings::Holdings;

/// Who holds what. Held for a decision, never over I/O or an await.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    holdings: Mutex<Holdings>,
    /// Something was given out or taken back.
    pub(crate) changed: Notify,
}

impl Ledger {
    /// The holdings. Decisions change them only when they cannot fail any
    /// more, so even after a panic they are whole.
    pub(crate) fn holdings(&self) -> MutexGuard<'_, Holdings> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
