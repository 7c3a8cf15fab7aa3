//! What a command's failure means for its exit code: the shim's scale (design:
//! 1 guest, 2 configuration, 3 host), so that scripts need to know only one.

use coracle_api::names::exit;

/// Exit code after an interrupt that came before the guest ran.
pub const INTERRUPTED: u8 = 130;

/// A failure and the exit code that goes with it.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What happened.
    pub error: anyhow::Error,
}

impl From<crate::interrupt::Interrupted> for Failure {
    fn from(error: crate::interrupt::Interrupted) -> Self {
        Self {
            code: INTERRUPTED,
            error: error.into(),
        }
    }
}

/// Says whose mistake an error is.
pub trait Classify<T> {
    /// The user's: a manifest, an option.
    fn config(self) -> Result<T, Failure>;
    /// The machine's.
    fn host(self) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> Classify<T> for Result<T, E> {
    fn config(self) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            code: exit::CONFIG,
            error: error.into(),
        })
    }

    fn host(self) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            code: exit::HOST,
            error: error.into(),
        })
    }
}
