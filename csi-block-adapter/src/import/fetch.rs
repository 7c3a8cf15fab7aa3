//! A file on a web server, read once from its start to its end however often
//! the connection is cut.
//!
//! After a cut the rest is asked for with `Range` (RFC 9110 §14), and with
//! `If-Range` so that a file that was replaced is not glued to the old one. A
//! server that gives other bytes than it was asked for is not believed.
//! Credentials go to the host they were given for alone, and into no message.

mod download;
mod error;

use std::{sync::Arc, thread, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ureq::{
    Agent, Body, BodyReader,
    http::{HeaderMap, Response, StatusCode},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

pub(crate) use self::download::Download;
pub use self::error::FetchError;
use self::error::transient;
use super::source::Url;

/// A server that says nothing for so long is not there any more.
const SILENCE: Duration = Duration::from_secs(30);

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
        ureq::Error::Rustls(_) | ureq::Error::Io(_) if speaks_no_tls(&error.to_string()) => {
            FetchError::Protocol {
                url,
                what: "the server does not speak TLS there: is the address http://?".into(),
            }
        }
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

/// Whether this is what rustls says of an answer in clear.
fn speaks_no_tls(error: &str) -> bool {
    error.contains("InvalidContentType")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_decoded_and_pauses_grow_to_their_limit() {
        assert_eq!(percent_decode("a%40b:c%2"), b"a@b:c%2");
        let retry = Retry::default();
        assert_eq!(retry.pause(0), Duration::from_millis(500));
        assert_eq!(retry.pause(3), Duration::from_secs(4));
        assert_eq!(retry.pause(40), Duration::from_secs(30));
    }
}
