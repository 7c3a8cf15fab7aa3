//! The user's terminal: raw while a guest has it, and as it was afterwards,
//! whatever happens between.

use std::io::{self, IsTerminal};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Puts the terminal back as it was when it is dropped.
#[derive(Debug)]
pub struct Kept(Termios);

impl Drop for Kept {
    fn drop(&mut self) {
        // Nothing is left to do where this fails: the window is gone, say.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// Whether a person sits there.
#[must_use]
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Remembers how the terminal is; standard input must be one.
///
/// # Errors
/// When it is none.
pub fn keep() -> io::Result<Kept> {
    Ok(Kept(tcgetattr(io::stdin())?))
}

impl Kept {
    /// Lets every key through, Ctrl-C too, until this is dropped.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn raw(&self) -> io::Result<()> {
        let mut raw = self.0.clone();
        cfmakeraw(&mut raw);
        Ok(tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?)
    }
}
