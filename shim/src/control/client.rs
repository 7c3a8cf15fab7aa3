//! The client's side, blocking: a subcommand does one thing and ends.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use coracle_api::report::State;

use super::{
    protocol::{Answer, Call},
    socket::SOCKET_NAME,
};

/// The longest answer. A termination message is a part of it.
const ANSWER_MAX: u64 = 64 * 1024;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no VM runs in {} (nobody listens on {SOCKET_NAME} there)", path.display())]
    Nobody {
        /// The runtime directory.
        path: PathBuf,
    },
    /// The socket cannot be reached.
    #[error("the control socket in {} cannot be reached", path.display())]
    Unreachable {
        /// The runtime directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The connection broke off.
    #[error("the shim has ended or broke off the connection")]
    BrokenOff {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The answer makes no sense, so the shim is another version.
    #[error("the shim's answer cannot be read: is it of another version?")]
    Answer {
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The shim refused.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
    },
}

/// A connection to a shim.
#[derive(Debug)]
pub struct Client(UnixStream);

impl Client {
    /// Connects to the shim of a runtime directory.
    ///
    /// # Errors
    /// [`ClientError::Nobody`] and [`ClientError::Unreachable`].
    pub fn connect(run_dir: &Path) -> Result<Self, ClientError> {
        let path = run_dir.to_owned();
        match UnixStream::connect(run_dir.join(SOCKET_NAME)) {
            Ok(stream) => Ok(Self(stream)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Err(ClientError::Nobody { path })
            }
            Err(source) => Err(ClientError::Unreachable { path, source }),
        }
    }

    /// Asks for something to be done, and waits until it is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn call(mut self, call: Call) -> Result<(), ClientError> {
        match self.ask(call)? {
            Answer::Done {} | Answer::State(_) => Ok(()),
            Answer::Refused { message } => Err(ClientError::Refused { message }),
        }
    }

    /// Asks for the state.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn state(mut self) -> Result<State, ClientError> {
        match self.ask(Call::State {})? {
            Answer::State(state) => Ok(*state),
            Answer::Done {} => Err(ClientError::Refused {
                message: "it told no state".into(),
            }),
            Answer::Refused { message } => Err(ClientError::Refused { message }),
        }
    }

    /// Has the VM forgotten, and waits until its shim is gone.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn delete(mut self, force: bool) -> Result<(), ClientError> {
        match self.ask(Call::Delete { force })? {
            Answer::Done {} | Answer::State(_) => {}
            Answer::Refused { message } => return Err(ClientError::Refused { message }),
        }
        // A broken connection is the end that is waited for, too.
        let _ = self.0.read(&mut [0]);
        Ok(())
    }

    /// Turns the connection into the console.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn console(mut self, read_only: bool) -> Result<UnixStream, ClientError> {
        match self.ask(Call::Console { read_only })? {
            Answer::Done {} | Answer::State(_) => Ok(self.0),
            Answer::Refused { message } => Err(ClientError::Refused { message }),
        }
    }

    fn ask(&mut self, call: Call) -> Result<Answer, ClientError> {
        let broken = |source| ClientError::BrokenOff { source };
        let mut line =
            serde_json::to_vec(&call).map_err(|source| ClientError::Answer { source })?;
        line.push(b'\n');
        self.0.write_all(&line).map_err(broken)?;
        let mut answer = Vec::new();
        // Byte by byte: what follows the line is the console.
        let mut reader = BufReader::with_capacity(1, &self.0).take(ANSWER_MAX);
        reader.read_until(b'\n', &mut answer).map_err(broken)?;
        if answer.is_empty() {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&answer).map_err(|source| ClientError::Answer { source })
    }
}
