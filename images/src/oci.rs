//! OCI image archives: layers, configuration, manifest, index.
//!
//! Implements the OCI image layout and image specification 1.0, as far as
//! one image for linux/amd64 needs it. Struct fields are written in the order
//! in which they stand here, so equal images are equal bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hex;
use crate::tree::Tree;

const MEDIA_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MEDIA_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const MEDIA_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MEDIA_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// One compressed layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the tar before compression.
    pub diff_id: String,
    /// The gzip file.
    pub blob: Vec<u8>,
    /// What the layer holds, for `history`.
    pub comment: String,
}

/// How the image's program runs, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `user:group`, as numbers.
    pub user: String,
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// What identifies a finished image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Full name with tag.
    pub name: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Bytes that a registry would hold: manifest, configuration, layers.
    pub compressed_bytes: u64,
}

#[derive(Serialize)]
struct Descriptor {
    #[serde(rename = "mediaType")]
    media_type: &'static str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Platform {
    architecture: &'static str,
    os: &'static str,
}

#[derive(Serialize)]
struct Manifest {
    #[serde(rename = "schemaVersion")]
    schema_version: u8,
    #[serde(rename = "mediaType")]
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Serialize)]
struct Index {
    #[serde(rename = "schemaVersion")]
    schema_version: u8,
    #[serde(rename = "mediaType")]
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

#[derive(Serialize)]
struct Configuration<'a> {
    created: String,
    #[serde(flatten)]
    platform: Platform,
    config: Execution<'a>,
    rootfs: RootFs<'a>,
    history: Vec<History<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Execution<'a> {
    user: &'a str,
    entrypoint: &'a [String],
    working_dir: &'static str,
    labels: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: Vec<&'a str>,
}

#[derive(Serialize)]
struct History<'a> {
    created: String,
    created_by: &'static str,
    comment: &'a str,
}

impl Layer {
    /// Packs `tree`; every entry's time is `epoch`.
    pub fn pack(tree: &Tree, epoch: u64, comment: &str) -> io::Result<Self> {
        let mut tar = Vec::new();
        tree.write_tar(&mut tar, epoch)?;
        // Neither time nor file name: the same tar makes the same gzip.
        let mut gzip = GzBuilder::new()
            .mtime(0)
            .write(Vec::new(), Compression::new(7));
        gzip.write_all(&tar)?;
        Ok(Self {
            diff_id: digest(&tar),
            blob: gzip.finish()?,
            comment: comment.to_owned(),
        })
    }
}

/// Writes the image as a tar of an OCI layout that `ctr images import` takes
/// under the given name.
pub fn write_archive(
    name: &str,
    settings: &Settings,
    layers: &[Layer],
    epoch: u64,
    writer: impl Write,
) -> io::Result<Identity> {
    let config = configuration(settings, layers, epoch)?;
    let manifest = serde_json::to_vec(&Manifest {
        schema_version: 2,
        media_type: MEDIA_MANIFEST,
        config: descriptor(MEDIA_CONFIG, &config),
        layers: layers
            .iter()
            .map(|layer| descriptor(MEDIA_LAYER, &layer.blob))
            .collect(),
    })?;
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let mut entry = descriptor(MEDIA_MANIFEST, &manifest);
    entry.platform = Some(Platform {
        architecture: "amd64",
        os: "linux",
    });
    entry
        .annotations
        .insert("io.containerd.image.name", name.to_owned());
    entry
        .annotations
        .insert("org.opencontainers.image.ref.name", tag.to_owned());
    let identity = Identity {
        name: name.to_owned(),
        digest: entry.digest.clone(),
        compressed_bytes: blobs_size(&config, &manifest, layers),
    };
    let index = Index {
        schema_version: 2,
        media_type: MEDIA_INDEX,
        manifests: vec![entry],
    };

    let mut layout = Tree::default();
    layout.file("oci-layout", 0o644, *br#"{"imageLayoutVersion":"1.0.0"}"#);
    layout.file("index.json", 0o644, serde_json::to_vec(&index)?);
    let blobs = layers
        .iter()
        .map(|layer| &layer.blob[..])
        .chain([&config[..], &manifest[..]]);
    for blob in blobs {
        let digest = digest(blob);
        layout.file(&format!("blobs/{}", digest.replace(':', "/")), 0o644, blob);
    }
    layout.write_tar(writer, epoch)?;
    Ok(identity)
}

fn configuration(settings: &Settings, layers: &[Layer], epoch: u64) -> io::Result<Vec<u8>> {
    let created = rfc3339(epoch);
    let history = layers
        .iter()
        .map(|layer| History {
            created: created.clone(),
            created_by: "coracle-images",
            comment: &layer.comment,
        })
        .collect();
    let configuration = Configuration {
        created: created.clone(),
        platform: Platform {
            architecture: "amd64",
            os: "linux",
        },
        config: Execution {
            user: &settings.user,
            entrypoint: &settings.entrypoint,
            working_dir: "/",
            labels: &settings.labels,
        },
        rootfs: RootFs {
            kind: "layers",
            diff_ids: layers.iter().map(|layer| layer.diff_id.as_str()).collect(),
        },
        history,
    };
    Ok(serde_json::to_vec(&configuration)?)
}

fn descriptor(media_type: &'static str, blob: &[u8]) -> Descriptor {
    Descriptor {
        media_type,
        digest: digest(blob),
        size: blob.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

fn blobs_size(config: &[u8], manifest: &[u8], layers: &[Layer]) -> u64 {
    let layers: usize = layers.iter().map(|layer| layer.blob.len()).sum();
    (config.len() + manifest.len() + layers) as u64
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Seconds since 1970 as a UTC timestamp.
fn rfc3339(epoch: u64) -> String {
    let (days, second) = (epoch / 86_400, epoch % 86_400);
    // Days to a civil date, counted in eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let date = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_right_around_leap_days() {
        for (epoch, wanted) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(epoch), wanted);
        }
    }

    #[test]
    fn equal_trees_make_equal_archives_and_a_changed_file_another_digest() {
        let archive = |contents: &'static [u8]| {
            let mut tree = Tree::default();
            tree.file("usr/bin/x", 0o755, contents);
            let layer = Layer::pack(&tree, 0, "x").unwrap();
            let settings = Settings {
                user: "107:107".to_owned(),
                entrypoint: vec!["/usr/bin/x".to_owned()],
                labels: BTreeMap::new(),
            };
            let mut bytes = Vec::new();
            let identity =
                write_archive("coracle.dev/x:1", &settings, &[layer], 0, &mut bytes).unwrap();
            (identity, bytes)
        };
        assert_eq!(archive(b"one"), archive(b"one"));
        assert_ne!(archive(b"one").0.digest, archive(b"two").0.digest);
    }
}
