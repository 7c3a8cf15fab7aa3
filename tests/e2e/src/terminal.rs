//! A program on a terminal, as a person has it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::wait::until;

/// A terminal and the program on it. Dropped, it ends the program.
pub struct Terminal {
    keyboard: File,
    /// The program's side.
    line: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    /// Starts a program on a new terminal.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let pair = openpty(None, None).context("openpty")?;
        let side = || -> anyhow::Result<Stdio> { Ok(pair.slave.try_clone()?.into()) };
        let child = Command::new(program)
            .args(arguments)
            .stdin(side()?)
            .stdout(side()?)
            .stderr(side()?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{program} cannot be run"))?;
        let keyboard = File::from(pair.master);
        let mut screen = keyboard.try_clone()?;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let all = shown.clone();
        // Ends with the last descriptor of the other side.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.extend_from_slice(&buffer[..length]);
            }
        });
        Ok(Self {
            keyboard,
            line: pair.slave,
            shown,
            child,
        })
    }

    /// Types something.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn types(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.keyboard.write_all(text.as_bytes())?)
    }

    /// Everything that was shown.
    #[must_use]
    pub fn screen(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Waits until a text was shown this often.
    ///
    /// # Errors
    /// When it is not; with what was.
    pub async fn shows(&self, text: &str, times: usize) -> anyhow::Result<()> {
        let what = format!("{times} times {text:?} on the terminal");
        let found = until(&what, async || {
            let often = self.screen().matches(text).count() >= times;
            Ok(often.then_some(()))
        });
        found.await.with_context(|| self.screen())
    }

    /// Whether each key goes to the program as it is.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn is_raw(&self) -> anyhow::Result<bool> {
        let flags = tcgetattr(&self.line)?.local_flags;
        Ok(!flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG))
    }

    /// Closes the window, as far as the program can tell.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        let id = self.child.id().context("it has ended")?;
        Ok(kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGHUP)?)
    }

    /// Waits until the program has ended, and tells whether it was content.
    ///
    /// # Errors
    /// When it goes on.
    pub async fn ends(&mut self) -> anyhow::Result<bool> {
        let ended = tokio::time::timeout(crate::wait::PATIENCE, self.child.wait()).await;
        let status = ended.with_context(|| format!("it goes on: {}", self.screen()))??;
        Ok(status.success())
    }
}
