//! Container images of the tests' own: of files, or with more files on top of
//! an image that there is. An image is an archive for the node's containerd,
//! or what a registry serves.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image: OCI image specification 1.0.
#[derive(Clone)]
pub struct Image {
    config: Value,
    layers: Vec<Blob>,
}

/// A blob and its media type.
#[derive(Clone)]
pub(crate) struct Blob {
    media_type: String,
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self {
            media_type: media_type.to_owned(),
            bytes,
        }
    }

    pub(crate) fn digest(&self) -> String {
        digest(&self.bytes)
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl Image {
    /// One with these files, which everybody may read.
    ///
    /// # Errors
    /// When they make no archive.
    pub fn of(files: &[(&str, &[u8])]) -> anyhow::Result<Self> {
        let config = json!({"architecture": "amd64", "os": "linux", "config": {},
                            "rootfs": {"type": "layers", "diff_ids": []}});
        let layers = vec![];
        Self { config, layers }.with_files(files)
    }

    /// The one in an archive of an OCI layout.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(archive: &Path) -> anyhow::Result<Self> {
        let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let file = File::open(archive).with_context(|| archive.display().to_string())?;
        for entry in tar::Archive::new(file).entries()? {
            let mut entry = entry?;
            let name = entry.path()?.display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            blobs.insert(name, bytes);
        }
        let blob = |of: &Value| {
            let digest = of["digest"].as_str().unwrap_or_default();
            let bytes = blobs.get(&format!("blobs/{}", digest.replace(':', "/")));
            bytes.with_context(|| format!("the archive has no {digest}"))
        };
        let index: Value = serde_json::from_slice(blobs.get("index.json").context("no index")?)?;
        let manifest: Value = serde_json::from_slice(blob(&index["manifests"][0])?)?;
        let layers = manifest["layers"].as_array().context("no layers")?;
        let layer = |of: &Value| {
            let media_type = of["mediaType"].as_str().unwrap_or(LAYER);
            Ok(Blob::new(media_type, blob(of)?.clone()))
        };
        Ok(Self {
            config: serde_json::from_slice(blob(&manifest["config"])?)?,
            layers: layers.iter().map(layer).collect::<anyhow::Result<_>>()?,
        })
    }

    /// With these files on top.
    ///
    /// # Errors
    /// When they make no archive.
    pub fn with_files(mut self, files: &[(&str, &[u8])]) -> anyhow::Result<Self> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o444);
            archive.append_data(&mut header, path, *bytes)?;
        }
        let layer = Blob::new(LAYER, archive.into_inner()?);
        let ids = self.config.pointer_mut("/rootfs/diff_ids");
        let ids = ids.and_then(Value::as_array_mut).context("no layers")?;
        ids.push(layer.digest().into());
        self.layers.push(layer);
        Ok(self)
    }

    /// With a variable of its programs' environment.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.config["config"]["Env"] = json!([format!("{name}={value}")]);
        self
    }

    /// Its manifest, and all that the manifest names.
    pub(crate) fn blobs(&self) -> anyhow::Result<(Blob, Vec<Blob>)> {
        let config = Blob::new(CONFIG, serde_json::to_vec(&self.config)?);
        let layers: Vec<Value> = self.layers.iter().map(Blob::descriptor).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
                              "config": config.descriptor(), "layers": layers});
        let manifest = Blob::new(MANIFEST, serde_json::to_vec(&manifest)?);
        let named = self.layers.iter().cloned().chain([config]);
        Ok((manifest, named.collect()))
    }

    /// As an archive that containerd takes under this name.
    ///
    /// # Errors
    /// When it cannot be packed.
    pub(crate) fn archive(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        ensure!(name.contains(':'), "{name} has no tag");
        let (manifest, blobs) = self.blobs()?;
        let mut descriptor = manifest.descriptor();
        descriptor["annotations"] = json!({"io.containerd.image.name": name});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]});
        let mut files = vec![
            (
                "oci-layout".to_owned(),
                br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
            ),
            ("index.json".to_owned(), serde_json::to_vec(&index)?),
        ];
        files.extend(blobs.into_iter().chain([manifest]).map(|blob| {
            let name = format!("blobs/{}", blob.digest().replace(':', "/"));
            (name, blob.bytes)
        }));
        let mut archive = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, &*bytes)?;
        }
        Ok(archive.into_inner()?)
    }
}
