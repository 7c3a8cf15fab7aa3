//! A running program whose output is read as it comes.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{PATIENCE, until};

/// A program that was started. Killed when it is dropped before its end.
#[derive(Debug)]
pub struct Run {
    child: Child,
    stdout: Arc<Stream>,
    stderr: Arc<Stream>,
}

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
}

#[derive(Debug, Default)]
struct Stream {
    read: Mutex<(String, bool)>,
    more: Condvar,
}

impl Stream {
    fn of(mut source: impl Read + Send + 'static) -> Arc<Self> {
        let stream = Arc::new(Self::default());
        let sink = Arc::clone(&stream);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                let length = source.read(&mut bytes).unwrap_or(0);
                let mut read = sink.read.lock().unwrap_or_else(PoisonError::into_inner);
                read.0.push_str(&String::from_utf8_lossy(&bytes[..length]));
                read.1 |= length == 0;
                sink.more.notify_all();
                if length == 0 {
                    return;
                }
            }
        });
        stream
    }

    fn text(&self) -> String {
        self.read
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .clone()
    }

    /// Waits until the text fulfils the condition; false when it ended first.
    fn wait(&self, condition: impl Fn(&str, bool) -> bool) -> Option<bool> {
        let deadline = Instant::now() + PATIENCE;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if condition(&read.0, read.1) {
                return Some(true);
            }
            if read.1 {
                return Some(false);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let waited = self.more.wait_timeout(read, left);
            read = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Run {
    /// Starts a program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = child
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let stdout = Stream::of(child.stdout.take().context("standard output is a pipe")?);
        let stderr = Stream::of(child.stderr.take().context("standard error is a pipe")?);
        Ok(Self {
            child,
            stdout,
            stderr,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has printed the text.
    ///
    /// # Errors
    /// When it ends before, or takes too long.
    pub fn wait_stdout(&self, text: &str) -> anyhow::Result<()> {
        self.expect(&self.stdout, text)
    }

    /// Waits until it has logged the text.
    ///
    /// # Errors
    /// When it ends before, or takes too long.
    pub fn wait_stderr(&self, text: &str) -> anyhow::Result<()> {
        self.expect(&self.stderr, text)
    }

    fn expect(&self, stream: &Stream, text: &str) -> anyhow::Result<()> {
        let how = match stream.wait(|read, _| read.contains(text)) {
            Some(true) => return Ok(()),
            Some(false) => "it ended before",
            None => "it took too long",
        };
        let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
        bail!("waiting for {text:?}: {how}\nstdout: {stdout}\nstderr: {stderr}")
    }

    /// What it has printed so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has logged so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Types something.
    ///
    /// # Errors
    /// When it does not read any more.
    pub fn type_in(&mut self, text: &str) -> anyhow::Result<()> {
        let stdin = self
            .child
            .stdin
            .as_mut()
            .context("standard input is open")?;
        stdin.write_all(text.as_bytes())?;
        Ok(stdin.flush()?)
    }

    /// Ends its input.
    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("{signal} to {pid}"))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it takes too long; it is killed then.
    pub fn finish(mut self) -> anyhow::Result<Finished> {
        self.close_stdin();
        let ended = until("the end of the program", || {
            self.child.try_wait().ok().flatten()
        });
        let status: ExitStatus = match ended {
            Ok(status) => status,
            Err(error) => bail!(
                "{error}\nstdout: {}\nstderr: {}",
                self.stdout(),
                self.stderr()
            ),
        };
        // Whoever it leaves behind must not have its output.
        for stream in [&self.stdout, &self.stderr] {
            if stream.wait(|_, ended| ended).is_none() {
                bail!("something holds the program's output open after its end");
            }
        }
        Ok(Finished {
            code: status.code(),
            stdout: self.stdout(),
            stderr: self.stderr(),
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// Fails unless the exit code is this one.
    ///
    /// # Errors
    /// With everything that the program said.
    pub fn expect_code(self, code: i32) -> anyhow::Result<Self> {
        if self.code == Some(code) {
            return Ok(self);
        }
        let Self {
            code: found,
            stdout,
            stderr,
        } = self;
        bail!("exit code {found:?} instead of {code}\nstdout: {stdout}\nstderr: {stderr}")
    }

    /// Fails unless the log holds all of these.
    ///
    /// # Errors
    /// With the whole log.
    pub fn expect_said(&self, words: &[&str]) -> anyhow::Result<()> {
        match words.iter().find(|word| !self.stderr.contains(**word)) {
            None => Ok(()),
            Some(word) => bail!("{word:?} is not in what was said:\n{}", self.stderr),
        }
    }
}
