//! One file, read from its start to its end over as many connections as it
//! takes (RFC 9110 §14).

use std::{
    io::{self, Read},
    thread,
};

use ureq::{BodyReader, http::StatusCode};

use super::{Client, FetchError, length, reader, unreachable, validator};
use crate::import::source::Url;

/// A file that is being read.
pub(crate) struct Download {
    pub(super) client: Client,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(crate) size: Option<u64>,
    pub(super) validator: Option<String>,
    /// The caller knows what the bytes must be.
    pub(super) checked: bool,
    pub(super) position: u64,
    /// Attempts since the last byte.
    pub(super) idle: u32,
    pub(super) body: Option<BodyReader<'static>>,
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
}
