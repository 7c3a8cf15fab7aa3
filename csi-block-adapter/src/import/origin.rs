//! Opens a source, and reads it as a stream as often as needed.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use nix::{fcntl::OFlag, unistd::dup};

use super::{
    Request,
    compress::Compression,
    error::ImportError,
    fetch::Client,
    hash::Hashing,
    local,
    progress::Progress,
    raw::HEAD,
    registry::{Descriptor, LayerFile, Place, Registry, find_in_layer},
    source::{Source, Url, digest_hex},
};

/// A source that is open.
pub(super) struct Origin {
    kind: Kind,
    /// The caller knows the sum.
    checked: bool,
    /// The source is no archive.
    raw: bool,
}

enum Kind {
    /// Standard input; can be read once.
    Stream(File),
    File(File),
    Http(Client, Url),
    Registry(Box<Registry>, Option<String>),
}

/// One reading.
pub(super) struct Pass {
    pub(super) done: bool,
    pub(super) sha256: String,
}

impl Origin {
    pub(super) fn new(request: &Request) -> Result<Self, ImportError> {
        let kind = match &request.source {
            Source::Stdin => {
                let input = File::from(dup(io::stdin()).map_err(io::Error::from)?);
                if input.metadata()?.is_file() {
                    Kind::File(input)
                } else {
                    Kind::Stream(input)
                }
            }
            Source::Path(path) => open(path).map_err(|source| ImportError::Open {
                path: path.clone(),
                source,
            })?,
            Source::Http(url) => Kind::Http(client(request)?, url.clone()),
            Source::Registry(reference) => {
                let remote = &request.remote;
                let credentials = remote.credentials.as_deref().map(read_text).transpose()?;
                let client = client(request)?;
                let registry =
                    Registry::new(client, reference, remote.plain_http, credentials.as_deref())?;
                Kind::Registry(Box::new(registry), reference.path.clone())
            }
        };
        Ok(Self {
            kind,
            checked: request.checksum.is_some(),
            raw: request.raw,
        })
    }

    /// The file, when it can be read anywhere and is not compressed, and its
    /// first bytes.
    pub(super) fn plain_file(&self) -> Result<Option<(File, Vec<u8>)>, ImportError> {
        let Kind::File(file) = &self.kind else {
            return Ok(None);
        };
        let head = local::head(file, HEAD)?;
        if head.is_empty() {
            return Err(ImportError::EmptySource);
        }
        match Compression::detect(&head) {
            Some(_) if !self.raw => Ok(None),
            _ => Ok(Some((file.try_clone()?, head))),
        }
    }

    /// Whether it can be read once more.
    pub(super) fn again(&self) -> bool {
        !matches!(self.kind, Kind::Stream(_))
    }

    /// Reads the source to its end; `take` gets it, and its size where that is
    /// known.
    pub(super) fn read(
        &mut self,
        progress: &Progress,
        mut take: impl FnMut(&mut dyn Read, Option<u64>) -> Result<bool, ImportError>,
    ) -> Result<Pass, ImportError> {
        match &mut self.kind {
            Kind::Stream(input) => pass(input, None, progress, take),
            Kind::File(file) => {
                let size = local::size(file)?;
                io::Seek::rewind(file)?;
                pass(file, Some(size), progress, take)
            }
            Kind::Http(client, url) => {
                let mut download = client.open(url, vec![])?;
                if self.checked {
                    download.trust_content();
                }
                let size = download.size;
                pass(&mut download, size, progress, take)
            }
            Kind::Registry(registry, path) => match registry.locate()? {
                Place::Blob(blob) => {
                    let mut download = registry.blob(&blob)?;
                    let read = pass(&mut download, Some(blob.size), progress, take)?;
                    verify(&blob, &read.sha256)?;
                    Ok(read)
                }
                Place::Layers(layers) => {
                    for layer in layers {
                        match read_layer(registry, &layer, path.as_deref(), progress, &mut take)? {
                            LayerFile::Taken(read) => return Ok(read),
                            LayerFile::Removed => break,
                            LayerFile::Absent => {}
                        }
                    }
                    Err(registry.no_file().into())
                }
            },
        }
    }
}

fn pass(
    stream: &mut dyn Read,
    size: Option<u64>,
    progress: &Progress,
    mut take: impl FnMut(&mut dyn Read, Option<u64>) -> Result<bool, ImportError>,
) -> Result<Pass, ImportError> {
    progress.begin_source(size);
    let mut stream = Hashing::new(stream, Some(progress));
    let done = take(&mut stream, size)?;
    let sha256 = stream.finish()?;
    Ok(Pass { done, sha256 })
}

fn read_layer(
    registry: &mut Registry,
    layer: &Descriptor,
    path: Option<&str>,
    progress: &Progress,
    take: &mut impl FnMut(&mut dyn Read, Option<u64>) -> Result<bool, ImportError>,
) -> Result<LayerFile<Pass>, ImportError> {
    let download = registry.blob(layer)?;
    let mut blob = Hashing::new(download, None);
    let mut head = Vec::with_capacity(HEAD);
    (&mut blob).take(HEAD as u64).read_to_end(&mut head)?;
    let compression = Compression::detect(&head);
    let packed = io::Cursor::new(head).chain(&mut blob);
    let mut files: Box<dyn Read> = match compression {
        Some(compression) => compression.unpack(packed)?,
        None => Box::new(packed),
    };
    let found = find_in_layer(&mut files, path, |file, size| {
        pass(file, Some(size), progress, take)
    })?;
    drop(files);
    verify(layer, &blob.finish()?)?;
    Ok(found)
}

fn verify(blob: &Descriptor, found: &str) -> Result<(), ImportError> {
    let expected = digest_hex(&blob.digest).unwrap_or_default();
    if expected == found {
        return Ok(());
    }
    Err(ImportError::Checksum {
        expected,
        found: found.to_owned(),
    })
}

/// A block device is opened exclusively: nothing must write to it meanwhile.
fn open(path: &Path) -> io::Result<Kind> {
    let found = fs::metadata(path)?.file_type();
    let mut flags = OFlag::O_CLOEXEC;
    flags.set(OFlag::O_EXCL, found.is_block_device());
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    if found.is_file() || found.is_block_device() {
        Ok(Kind::File(file))
    } else if found.is_dir() {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a directory",
        ))
    } else {
        Ok(Kind::Stream(file))
    }
}

fn client(request: &Request) -> Result<Client, ImportError> {
    let remote = &request.remote;
    let pem = remote.authorities.as_deref().map(read_text).transpose()?;
    let path = remote
        .authorities
        .as_deref()
        .unwrap_or_else(|| Path::new(""));
    let path = path.display().to_string();
    let authorities = pem.as_ref().map(|pem| (path.as_str(), pem.as_bytes()));
    Ok(Client::new(authorities, remote.retry)?)
}

fn read_text(path: &Path) -> Result<String, ImportError> {
    fs::read_to_string(path).map_err(|source| ImportError::Open {
        path: path.to_owned(),
        source,
    })
}
