//! What names a source. Pure: a string in, a [`Source`] out.
//!
//! | text | source |
//! |---|---|
//! | `-` | standard input |
//! | `http://…`, `https://…` | a file on a web server |
//! | `docker://host/name:tag`, `oci://…`, either with `#path` | a file in a container image, or an artifact |
//! | anything else | a path: a file or a block device |
//!
//! What is shown of a source never has its credentials or its query in it,
//! where signatures are.

use std::{fmt, path::PathBuf};

use super::error::ImportError;

/// Longest text that is looked at.
const MAX_LEN: usize = 8 << 10;
/// The registry of references without a host, and its host.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard input.
    Stdin,
    /// A file or a block device.
    Path(PathBuf),
    /// A file on a web server.
    Http(Url),
    /// A container image or artifact.
    Registry(Reference),
}

/// An `http` or `https` URL, its credentials apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// The URL without user and fragment.
    pub(crate) address: String,
    /// `user:password`, as it was written.
    pub(crate) user: Option<String>,
}

/// A container image's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Host and port of the registry.
    pub(crate) host: String,
    /// Name of the repository.
    pub(crate) repository: String,
    /// Tag or digest.
    pub(crate) version: String,
    /// The file in it; without one it is the only file below `/disk/`.
    pub(crate) path: Option<String>,
}

impl Source {
    /// Reads a source's name.
    pub fn parse(text: &str) -> Result<Self, ImportError> {
        let refuse = |why| ImportError::Source {
            text: redact(text),
            why,
        };
        if text.is_empty() {
            return Err(refuse("it is empty"));
        }
        if text.len() > MAX_LEN || text.chars().any(char::is_control) {
            return Err(refuse("it is too long or has control characters in it"));
        }
        if text == "-" {
            return Ok(Self::Stdin);
        }
        match text.split_once("://") {
            Some(("http" | "https", _)) => url(text).map(Self::Http).map_err(refuse),
            Some(("docker" | "oci", rest)) => reference(rest).map(Self::Registry).map_err(refuse),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::Path(path.into())),
            Some((scheme, _)) if !scheme.contains('/') => Err(refuse(
                "write a path, -, http://, https://, docker:// or oci://",
            )),
            _ => Ok(Self::Path(text.into())),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::Path(path) => path.display().fmt(f),
            Self::Http(url) => url.fmt(f),
            Self::Registry(reference) => reference.fmt(f),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.address))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.version.contains(':') { '@' } else { ':' };
        write!(f, "{}/{}{at}{}", self.host, self.repository, self.version)?;
        match &self.path {
            Some(path) => write!(f, "#{path}"),
            None => Ok(()),
        }
    }
}

/// A URL as it may be shown.
fn redact(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => text.to_owned(),
    }
}

fn url(text: &str) -> Result<Url, &'static str> {
    let text = text.split('#').next().unwrap_or_default();
    let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user.to_owned()), host),
        None => (None, authority),
    };
    if !is_host(host) {
        return Err("its host is not one");
    }
    if path.contains(|c: char| c.is_whitespace() || !c.is_ascii()) {
        return Err("spaces and letters beyond ASCII must be percent-encoded");
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(Url {
        address: format!("{scheme}://{host}{slash}{path}"),
        user,
    })
}

fn is_host(host: &str) -> bool {
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        match rest.split_once(']') {
            Some((name, port)) if name.chars().all(|c| c.is_ascii_hexdigit() || c == ':') => {
                (name, port)
            }
            _ => return false,
        }
    } else {
        let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
        if !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        {
            return false;
        }
        (name, port)
    };
    let port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|p| p.parse::<u16>().is_ok());
    !name.is_empty() && port
}

/// `[host[:port]/]name[:tag][@digest][#path]`, defaults as Docker's.
fn reference(text: &str) -> Result<Reference, &'static str> {
    let (name, path) = match text.split_once('#') {
        Some((name, path)) => (name, Some(file_path(path)?)),
        None => (text, None),
    };
    let (name, digest) = match name.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (name, None),
    };
    let (host, rest) = match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => (HUB.0, name),
    };
    let (repository, tag) = match rest.rsplit_once(':') {
        Some((repository, tag)) => (repository, tag),
        None => (rest, "latest"),
    };
    let (host, repository) = match (host, repository.contains('/')) {
        (host, true) if host == HUB.0 => (HUB.1, repository.to_owned()),
        (host, false) if host == HUB.0 => (HUB.1, format!("library/{repository}")),
        (host, _) => (host, repository.to_owned()),
    };
    let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if !is_host(host) {
        return Err("its registry is not a host");
    }
    if repository
        .split('/')
        .any(|part| part.is_empty() || !part.chars().all(named))
    {
        return Err("a repository has lower-case letters, digits and ._-/ in its name");
    }
    let version = match digest {
        Some(digest) if digest_hex(digest).is_some() => digest,
        Some(_) => return Err("a digest is sha256: and 64 hexadecimal digits"),
        None if is_tag(tag) => tag,
        None => return Err("its tag is not one"),
    };
    Ok(Reference {
        host: host.to_owned(),
        repository,
        version: version.to_owned(),
        path,
    })
}

fn is_tag(tag: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !tag.is_empty() && tag.len() <= 128 && tag.chars().all(good) && !tag.starts_with(['.', '-'])
}

fn file_path(text: &str) -> Result<String, &'static str> {
    let path = text.trim_start_matches('/');
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.split('/').any(odd) {
        return Err("the path after # is not one of a file");
    }
    Ok(path.to_owned())
}

/// The hexadecimal part of a `sha256:` digest, in lower case.
pub(crate) fn digest_hex(text: &str) -> Option<String> {
    let hex = text.strip_prefix("sha256:")?;
    let good = hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit());
    good.then(|| hex.to_ascii_lowercase())
}

/// Reads a checksum, `sha256:` and hexadecimal digits.
pub fn checksum(text: &str) -> Result<String, ImportError> {
    digest_hex(text).ok_or_else(|| ImportError::ChecksumText { text: text.into() })
}

#[cfg(test)]
mod tests;
