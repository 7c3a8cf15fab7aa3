//! Why a file does not come from a server, and whether asking again helps.

/// Why a file does not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server answers with a refusal.
    #[error("{url}: the server answers {status}{}", hint(*status))]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// No answer, after every attempt.
    #[error("{url}: no answer after {attempts} attempts: {why}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// How often.
        attempts: u32,
        /// The last failure.
        why: String,
    },
    /// The server's certificate is not one to trust.
    #[error("{url}: {why}: give the server's authority with --ca-file")]
    Certificate {
        /// What was asked for.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The file with the authorities is not one.
    #[error("{path} has no certificate in it")]
    Authorities {
        /// The file.
        path: String,
    },
    /// The file is another one now.
    #[error("{url}: the file changed on the server while it was read")]
    Changed {
        /// What was asked for.
        url: String,
    },
    /// The connection was cut, and the rest cannot be asked for safely.
    #[error(
        "{url}: the connection was cut after {bytes} bytes, and the server gives neither ETag nor \
         Last-Modified to go on with the same file"
    )]
    CannotResume {
        /// What was asked for.
        url: String,
        /// How far it came.
        bytes: u64,
    },
    /// The server sent another part than it was asked for.
    #[error("{url}: the server was asked for the bytes from {wanted} on and sent {sent}")]
    WrongRange {
        /// What was asked for.
        url: String,
        /// The first byte.
        wanted: u64,
        /// What it said.
        sent: String,
    },
    /// An answer that the protocol does not allow.
    #[error("{url}: {what}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        what: String,
    },
}

impl FetchError {
    /// Whether trying again is of no use.
    #[must_use]
    pub fn permanent(&self) -> bool {
        match self {
            Self::Status { status, .. } => !transient(*status),
            Self::Unreachable { .. } | Self::Changed { .. } | Self::CannotResume { .. } => false,
            Self::Certificate { .. }
            | Self::Authorities { .. }
            | Self::WrongRange { .. }
            | Self::Protocol { .. } => true,
        }
    }
}

pub(super) fn transient(status: u16) -> bool {
    status >= 500 || status == 408 || status == 425 || status == 429
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => " (not allowed: are credentials missing?)",
        404 | 410 => " (no such file)",
        _ => "",
    }
}
