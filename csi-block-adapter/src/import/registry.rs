//! A file in an OCI registry (distribution specification 1.1): an artifact's
//! blob, or a file in the layers of a container image, by custom below
//! `/disk/`.
//!
//! Every blob and manifest is checked against its digest. Only what the file
//! needs is fetched: layers are looked through from the top one down.

mod auth;
mod layer;

use std::io::Read;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use self::auth::Credentials;
pub(crate) use self::layer::{LayerFile, find_in_layer};
use super::{
    error::ImportError,
    fetch::{Client, Download, FetchError},
    hash::hex,
    source::{Reference, Url, digest_hex},
};

/// Largest manifest that is read (what registries accept).
const MAX_MANIFEST: u64 = 4 << 20;
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";
/// Annotation with a blob's file name.
const TITLE: &str = "org.opencontainers.image.title";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

/// A blob or manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

impl Descriptor {
    /// Whether it is a layer of files, and not a file.
    fn is_layer(&self) -> bool {
        self.media_type.contains(".tar") || self.media_type.contains("rootfs.diff")
    }

    fn title(&self) -> Option<&str> {
        self.annotations.get(TITLE).map(String::as_str)
    }
}

/// Where the file may be.
pub(crate) enum Place {
    /// It is this blob.
    Blob(Descriptor),
    /// It is in one of these layers; the topmost first.
    Layers(Vec<Descriptor>),
}

/// A registry, as one reference needs it.
pub(crate) struct Registry {
    client: Client,
    reference: Reference,
    base: String,
    credentials: Credentials,
}

impl Registry {
    /// `plain_http` for registries without TLS; `credentials` is the text of a
    /// Docker `config.json`.
    pub(crate) fn new(
        client: Client,
        reference: &Reference,
        plain_http: bool,
        credentials: Option<&str>,
    ) -> Result<Self, ImportError> {
        let scheme = if plain_http { "http" } else { "https" };
        let (host, repository) = (&reference.host, &reference.repository);
        Ok(Self {
            client,
            base: format!("{scheme}://{host}/v2/{repository}"),
            credentials: Credentials::new(credentials, host)?,
            reference: reference.clone(),
        })
    }

    /// Reads the manifests, and says where the file may be.
    pub(crate) fn locate(&mut self) -> Result<Place, ImportError> {
        let version = self.reference.version.clone();
        let mut manifest = self.manifest(&version)?;
        if !manifest.manifests.is_empty() {
            let fits = |entry: &&Descriptor| {
                let platform = entry.platform.as_ref();
                platform.is_none_or(|p| p.architecture == "amd64" && p.os == "linux")
            };
            let digest = manifest
                .manifests
                .iter()
                .find(fits)
                .map(|m| m.digest.clone());
            let digest = digest.ok_or_else(|| self.wrong("it has no image for linux/amd64"))?;
            manifest = self.manifest(&digest)?;
        }
        let layers = manifest.layers;
        if let Some(path) = &self.reference.path
            && let Some(blob) = layers.iter().find(|layer| layer.title() == Some(path))
        {
            return Ok(Place::Blob(blob.clone()));
        }
        match layers.as_slice() {
            [] => Err(self.wrong("it has no layers").into()),
            [blob] if !blob.is_layer() && self.reference.path.is_none() => {
                Ok(Place::Blob(blob.clone()))
            }
            layers => {
                let layers: Vec<_> = layers
                    .iter()
                    .rev()
                    .filter(|l| l.is_layer())
                    .cloned()
                    .collect();
                if layers.is_empty() {
                    return Err(self.wrong("it has several files: name one after #").into());
                }
                Ok(Place::Layers(layers))
            }
        }
    }

    fn manifest(&mut self, version: &str) -> Result<Manifest, ImportError> {
        let url = self.url(&format!("manifests/{version}"));
        let headers = vec![("Accept", MANIFESTS.to_owned())];
        let mut bytes = Vec::new();
        self.open(&url, headers)?
            .take(MAX_MANIFEST)
            .read_to_end(&mut bytes)
            .map_err(|source| ImportError::Read { source })?;
        if let Some(expected) = digest_hex(version) {
            let found = hex(&Sha256::digest(&bytes));
            if found != expected {
                return Err(ImportError::Checksum { expected, found });
            }
        }
        serde_json::from_slice(&bytes).map_err(|_| self.wrong("its manifest is not one").into())
    }

    /// Opens a blob; the caller checks its digest.
    pub(crate) fn blob(&mut self, blob: &Descriptor) -> Result<Download, ImportError> {
        if digest_hex(&blob.digest).is_none() {
            return Err(self.wrong("a blob's digest is not a sha256 digest").into());
        }
        let url = self.url(&format!("blobs/{}", blob.digest));
        let mut download = self.open(&url, vec![])?;
        download.trust_content();
        match download.size {
            Some(size) if size != blob.size => Err(self.wrong("a blob has not its size").into()),
            _ => Ok(download),
        }
    }

    fn open(
        &mut self,
        url: &Url,
        headers: Vec<(&'static str, String)>,
    ) -> Result<Download, ImportError> {
        let mut with = headers.clone();
        with.extend(self.credentials.header());
        match self.client.open(url, with) {
            Err(FetchError::Status { status: 401, .. }) if !self.credentials.asked() => {
                self.credentials
                    .obtain(&self.client, url, &self.reference)?;
                let mut with = headers;
                with.extend(self.credentials.header());
                Ok(self.client.open(url, with)?)
            }
            result => Ok(result?),
        }
    }

    fn url(&self, rest: &str) -> Url {
        Url {
            address: format!("{}/{rest}", self.base),
            user: None,
        }
    }

    /// The file is in none of the layers.
    pub(crate) fn no_file(&self) -> FetchError {
        self.wrong(match self.reference.path {
            Some(_) => "the file after # is not in it",
            None => "there is no file in /disk/: name one after #",
        })
    }

    fn wrong(&self, what: &str) -> FetchError {
        FetchError::Protocol {
            url: self.reference.to_string(),
            what: what.to_owned(),
        }
    }
}
