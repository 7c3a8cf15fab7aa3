//! A file on a web server, read once from its start to its end however often
//! the connection is cut.
//!
//! After a cut the rest is asked for with `Range` (RFC 9110 §14), and with
//! `If-Range` so that a file that was replaced is not glued to the old one. A
//! server that gives other bytes than it was asked for is not believed.
//! Credentials go to the host they were given for alone, and into no message.

use std::{
    io::{self, Read},
    sync::Arc,
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ureq::{
    Agent, Body, BodyReader,
    http::{HeaderMap, Response, StatusCode},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::source::Url;

/// A server that says nothing for so long is not there any more.
const SILENCE: Duration = Duration::from_secs(30);

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

fn transient(status: u16) -> bool {
    status >= 500 || status == 408 || status == 425 || status == 429
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => " (not allowed: are credentials missing?)",
        404 | 410 => " (no such file)",
        _ => "",
    }
}

/// How often and how patiently a server is asked.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Attempts without a single byte between them.
    pub attempts: u32,
    /// Pause after the first; doubles.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 8,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
        }
    }
}

impl Retry {
    fn pause(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

/// Asks servers.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    retry: Retry,
}

impl Client {
    /// With `authorities`, PEM text, beside the built-in ones nobody else is
    /// believed.
    pub(crate) fn new(
        authorities: Option<(&str, &[u8])>,
        retry: Retry,
    ) -> Result<Self, FetchError> {
        let mut tls = TlsConfig::builder();
        if let Some((path, pem)) = authorities {
            let certificates: Vec<Certificate<'static>> = parse_pem(pem)
                .filter_map(Result::ok)
                .filter_map(|item| match item {
                    PemItem::Certificate(certificate) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                return Err(FetchError::Authorities { path: path.into() });
            }
            tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates)));
        }
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            .user_agent(concat!("coracle-block/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .input_buffer_size(128 << 10)
            .build();
        Ok(Self {
            agent: config.into(),
            retry,
        })
    }

    /// One request, tried again while the server is not well.
    pub(crate) fn get(
        &self,
        url: &Url,
        headers: &[(&str, String)],
    ) -> Result<Response<Body>, FetchError> {
        let mut attempt = 0;
        loop {
            let failure = match self.once(url, headers) {
                Ok(response) if !transient(response.status().as_u16()) => return Ok(response),
                Ok(response) => FetchError::Status {
                    url: url.to_string(),
                    status: response.status().as_u16(),
                },
                Err(error) if error.permanent() => return Err(error),
                Err(error) => error,
            };
            attempt += 1;
            if attempt >= self.retry.attempts {
                return Err(match failure {
                    FetchError::Unreachable { url, why, .. } => FetchError::Unreachable {
                        url,
                        attempts: attempt,
                        why,
                    },
                    other => other,
                });
            }
            thread::sleep(self.retry.pause(attempt - 1));
        }
    }

    fn once(&self, url: &Url, headers: &[(&str, String)]) -> Result<Response<Body>, FetchError> {
        let mut request = self.agent.get(&url.address);
        if let Some(user) = &url.user {
            let value = format!("Basic {}", STANDARD.encode(percent_decode(user)));
            request = request.header("Authorization", value);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.call().map_err(|error| explain(url, &error))
    }

    /// Opens a file to be read to its end.
    pub(crate) fn open(
        &self,
        url: &Url,
        headers: Vec<(&'static str, String)>,
    ) -> Result<Download, FetchError> {
        let response = self.get(url, &headers)?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(FetchError::Status {
                url: url.to_string(),
                status: status.as_u16(),
            });
        }
        let size = length(&response);
        let validator = validator(response.headers());
        Ok(Download {
            client: self.clone(),
            url: url.clone(),
            headers,
            size,
            validator,
            checked: false,
            position: 0,
            idle: 0,
            body: Some(reader(response)),
        })
    }
}

fn reader(response: Response<Body>) -> BodyReader<'static> {
    response
        .into_body()
        .into_with_config()
        .limit(u64::MAX)
        .reader()
}

fn length(response: &Response<Body>) -> Option<u64> {
    response
        .headers()
        .get("content-length")?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// What tells that a file is the same: a strong entity tag, or the date.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    text("etag")
        .filter(|tag| !tag.starts_with("W/"))
        .or_else(|| text("last-modified"))
        .map(str::to_owned)
}

/// ureq's text can repeat the address, with its query; only kinds are told.
fn explain(url: &Url, error: &ureq::Error) -> FetchError {
    let url = url.to_string();
    match error {
        ureq::Error::Rustls(error) => FetchError::Certificate {
            url,
            why: error.to_string(),
        },
        ureq::Error::Io(error) if error.to_string().contains("certificate") => {
            FetchError::Certificate {
                url,
                why: error.to_string(),
            }
        }
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => FetchError::Protocol {
            url,
            what: "the address is not one".into(),
        },
        ureq::Error::TooManyRedirects => FetchError::Protocol {
            url,
            what: "it is redirected too often".into(),
        },
        ureq::Error::Io(error) => unreachable(url, error.to_string()),
        ureq::Error::Timeout(_) => unreachable(url, "timed out".into()),
        ureq::Error::HostNotFound => unreachable(url, "the host is not known".into()),
        ureq::Error::ConnectionFailed => unreachable(url, "the connection failed".into()),
        _ => unreachable(url, "the answer is not HTTP".into()),
    }
}

fn unreachable(url: String, why: String) -> FetchError {
    FetchError::Unreachable {
        url,
        attempts: 1,
        why,
    }
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = if code.is_some() { &tail[2..] } else { tail };
        bytes.push(code.unwrap_or(*first));
    }
    bytes
}

/// A file that is being read.
pub(crate) struct Download {
    client: Client,
    url: Url,
    headers: Vec<(&'static str, String)>,
    pub(crate) size: Option<u64>,
    validator: Option<String>,
    /// The caller knows what the bytes must be.
    checked: bool,
    position: u64,
    /// Attempts since the last byte.
    idle: u32,
    body: Option<BodyReader<'static>>,
}

impl Download {
    /// The caller checks a sum of all bytes: after a cut the rest may be asked
    /// for although the server says nothing that identifies the file.
    pub(crate) fn trust_content(&mut self) {
        self.checked = true;
    }

    /// Asks for the rest.
    fn resume(&mut self) -> Result<BodyReader<'static>, FetchError> {
        let url = || self.url.to_string();
        if self.validator.is_none() && !self.checked {
            return Err(FetchError::CannotResume {
                url: url(),
                bytes: self.position,
            });
        }
        let mut headers = self.headers.clone();
        headers.push(("Range", format!("bytes={}-", self.position)));
        headers.extend(
            self.validator
                .clone()
                .map(|validator| ("If-Range", validator)),
        );
        let response = self.client.get(&self.url, &headers)?;
        let now = validator(response.headers());
        let same = now == self.validator && now.is_some() || self.checked;
        if now != self.validator && !self.checked {
            return Err(FetchError::Changed { url: url() });
        }
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let sent = response.headers().get("content-range");
                let sent = sent
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or("nothing");
                if range(sent) == Some((self.position, self.size)) {
                    return Ok(reader(response));
                }
                Err(FetchError::WrongRange {
                    url: url(),
                    wanted: self.position,
                    sent: sent.chars().take(80).collect(),
                })
            }
            // No ranges here, but the same file: what is known is skipped.
            StatusCode::OK if same && length(&response) == self.size => {
                let mut body = reader(response);
                let skipped = io::copy(&mut (&mut body).take(self.position), &mut io::sink());
                match skipped {
                    Ok(skipped) if skipped == self.position => Ok(body),
                    _ => Err(unreachable(url(), "the connection was cut again".into())),
                }
            }
            StatusCode::OK
            | StatusCode::PRECONDITION_FAILED
            | StatusCode::RANGE_NOT_SATISFIABLE => Err(FetchError::Changed { url: url() }),
            status => Err(FetchError::Status {
                url: url(),
                status: status.as_u16(),
            }),
        }
    }
}

/// First byte and size in `bytes 5-9/10`; a size of `*` is not known.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let size = match size {
        "*" => None,
        size => Some(size.parse().ok()?),
    };
    (first <= last && size.is_none_or(|size| last + 1 == size)).then_some((first, size))
}

impl Read for Download {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.size == Some(self.position) || bytes.is_empty() {
            return Ok(0);
        }
        loop {
            let mut body = match self.body.take() {
                Some(body) => body,
                None => match self.resume() {
                    Ok(body) => body,
                    Err(error) if error.permanent() || self.idle >= self.client.retry.attempts => {
                        return Err(io::Error::other(error));
                    }
                    Err(error @ (FetchError::Changed { .. } | FetchError::CannotResume { .. })) => {
                        return Err(io::Error::other(error));
                    }
                    Err(_) => {
                        self.idle += 1;
                        thread::sleep(self.client.retry.pause(self.idle));
                        continue;
                    }
                },
            };
            match body.read(bytes) {
                Ok(0) if self.size.is_none() => return Ok(0),
                Ok(read) if read > 0 => {
                    self.position += read as u64;
                    self.idle = 0;
                    self.body = Some(body);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.body = Some(body);
                }
                // Ended early, or failed.
                _ if self.idle < self.client.retry.attempts => {
                    self.idle += 1;
                    thread::sleep(self.client.retry.pause(self.idle - 1));
                }
                _ => {
                    let error = FetchError::Unreachable {
                        url: self.url.to_string(),
                        attempts: self.idle,
                        why: "the connection is cut again and again".into(),
                    };
                    return Err(io::Error::other(error));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_says_first_byte_and_size() {
        assert_eq!(range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range("bytes 5-9/*"), Some((5, None)));
        for wrong in [
            "",
            "bytes 5-9",
            "bytes 9-5/10",
            "bytes 5-8/10",
            "items 5-9/10",
        ] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_pauses_grow_to_their_limit() {
        assert_eq!(percent_decode("a%40b:c%2"), b"a@b:c%2");
        let retry = Retry::default();
        assert_eq!(retry.pause(0), Duration::from_millis(500));
        assert_eq!(retry.pause(3), Duration::from_secs(4));
        assert_eq!(retry.pause(40), Duration::from_secs(30));
    }
}
