//! Reads which image an archive holds, without unpacking it: an OCI layout or
//! what `docker save` writes, as a tar.
//!
//! Never trusts a size in the archive: what is read into memory is bounded.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Manifests and indexes are a few kilobytes; more is no image of ours.
const METADATA_MAX: u64 = 4 << 20;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be opened or is no tar.
    #[error("the image archive {} cannot be read", path.display())]
    Read {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds no image.
    #[error(
        "{} holds neither an OCI image layout (index.json) nor what `docker save` writes \
         (manifest.json)",
        path.display()
    )]
    NoImage {
        /// The archive.
        path: PathBuf,
    },
    /// A part of it is not there or not JSON.
    #[error("the image archive {} is damaged: {part}", path.display())]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// The part.
        part: String,
    },
    /// It holds other images than the one that is wanted.
    #[error(
        "the image archive {} does not hold {wanted}, only {}: name the image with --image, or \
         another archive with --image-archive",
        path.display(), there.join(", ")
    )]
    OtherImage {
        /// The archive.
        path: PathBuf,
        /// The image that is wanted.
        wanted: String,
        /// The images it holds.
        there: Vec<String>,
    },
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

/// The id that a runtime gives the image `reference` out of this archive: the
/// digest of its configuration, `sha256:…`.
pub fn image_id(path: &Path, reference: &str) -> Result<String, ArchiveError> {
    let damaged = |part: String| ArchiveError::Damaged {
        path: path.to_path_buf(),
        part,
    };
    if let Some(bytes) = entry(path, "index.json")? {
        let index: Index =
            serde_json::from_slice(&bytes).map_err(|_| damaged("index.json".into()))?;
        let name = |manifest: &Descriptor| {
            manifest
                .annotations
                .get("io.containerd.image.name")
                .cloned()
        };
        let Some(found) = index
            .manifests
            .iter()
            .find(|m| name(m).as_deref() == Some(reference))
        else {
            return Err(ArchiveError::OtherImage {
                path: path.to_path_buf(),
                wanted: reference.to_owned(),
                there: index.manifests.iter().filter_map(name).collect(),
            });
        };
        let blob = format!("blobs/{}", found.digest.replace(':', "/"));
        let bytes = entry(path, &blob)?.ok_or_else(|| damaged(blob.clone()))?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|_| damaged(blob))?;
        return Ok(manifest.config.digest);
    }
    let bytes = entry(path, "manifest.json")?.ok_or_else(|| ArchiveError::NoImage {
        path: path.to_path_buf(),
    })?;
    let images: Vec<DockerImage> =
        serde_json::from_slice(&bytes).map_err(|_| damaged("manifest.json".into()))?;
    let tags = |image: &DockerImage| image.repo_tags.clone().unwrap_or_default();
    let Some(found) = images
        .iter()
        .find(|image| tags(image).iter().any(|tag| tag == reference))
    else {
        return Err(ArchiveError::OtherImage {
            path: path.to_path_buf(),
            wanted: reference.to_owned(),
            there: images.iter().flat_map(tags).collect(),
        });
    };
    // `<digest>.json`, or `blobs/sha256/<digest>` from newer writers.
    let digest = Path::new(&found.config)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    Ok(format!("sha256:{digest}"))
}

/// The content of one file of the archive.
fn entry(path: &Path, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
    let read = || -> io::Result<Option<Vec<u8>>> {
        let mut archive = tar::Archive::new(File::open(path)?);
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let found = entry.path()?.strip_prefix("./").map_or_else(
                |_| entry.path().is_ok_and(|p| p.as_ref() == Path::new(name)),
                |stripped| stripped == Path::new(name),
            );
            if found {
                let mut bytes = Vec::new();
                entry.take(METADATA_MAX).read_to_end(&mut bytes)?;
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    };
    read().map_err(|source| ArchiveError::Read {
        path: path.to_path_buf(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let mut builder = tar::Builder::new(file.reopen().expect("opens"));
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            builder
                .append_data(&mut header, name, text.as_bytes())
                .expect("appends");
        }
        builder.finish().expect("finishes");
        file
    }

    const INDEX: &str = r#"{"manifests":[{"digest":"sha256:aa","annotations":{"io.containerd.image.name":"x/vm:1"}}]}"#;

    #[test]
    fn an_oci_layout_names_the_digest_of_its_configuration() {
        let manifest = r#"{"config":{"digest":"sha256:cc"}}"#;
        let file = archive(&[("index.json", INDEX), ("blobs/sha256/aa", manifest)]);
        assert_eq!(image_id(file.path(), "x/vm:1").expect("reads"), "sha256:cc");
        let error = image_id(file.path(), "x/vm:2").expect_err("another image");
        assert!(
            error
                .to_string()
                .contains("does not hold x/vm:2, only x/vm:1"),
            "{error}"
        );
    }

    #[test]
    fn a_docker_archive_does_too() {
        let manifest = r#"[{"Config":"dd.json","RepoTags":["x/vm:1"],"Layers":[]}]"#;
        let file = archive(&[("manifest.json", manifest)]);
        assert_eq!(image_id(file.path(), "x/vm:1").expect("reads"), "sha256:dd");
    }

    #[test]
    fn what_is_no_image_is_said_so() {
        let refused = |files: &[(&str, &str)]| {
            image_id(archive(files).path(), "x/vm:1")
                .expect_err("refused")
                .to_string()
        };
        assert!(refused(&[("readme", "")]).contains("holds neither"));
        assert!(refused(&[("index.json", "[")]).contains("damaged: index.json"));
        assert!(refused(&[("index.json", INDEX)]).contains("damaged: blobs/sha256/aa"));
        let missing = image_id(Path::new("/nonexistent.tar"), "x").expect_err("missing");
        assert!(matches!(missing, ArchiveError::Read { .. }));
    }
}
