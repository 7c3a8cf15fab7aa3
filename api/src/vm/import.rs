//! What a disk's claim is filled with before its VM first starts.
#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each struct, with its `pub`, inside a function"
)]

use std::fmt;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::ClaimSource;

/// A container image, as a pod names it.
pub(super) const IMAGE_REFERENCE: &str = r"^([A-Za-z0-9.-]+(:[0-9]{1,5})?/)?[a-z0-9._-]+(/[a-z0-9._-]+)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-fA-F]{64})?$";
/// A file below a directory: no part of it begins with a dot.
pub(super) const FILE_PATH: &str =
    r"^[A-Za-z0-9_+-][A-Za-z0-9._+-]*(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*$";

/// A PersistentVolumeClaim in the VM's namespace that is a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.from) || !has(self.from.claim) || self.from.claim.name != self.name")
    .message("a claim cannot be filled from itself: name another one in from.claim").field_path(".from"))]
pub struct DiskClaim {
    /// Name of the claim.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// What it is filled with, once, before the VM first starts. A claim that holds data already is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ImportSource>,
}

/// A disk image: raw or qcow2, as it is or in gzip, zstd or xz.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.http), has(self.image), has(self.claim)].filter(x, x).size() == 1")
    .message("say exactly one of http, image and claim"))]
pub struct ImportSource {
    /// A file on a web server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// A file in a container image, or an artifact of a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// Another claim of the namespace, which is only read; its disk is taken as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimSource>,
}

/// A file on a web server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.checksum) || self.url.startsWith('https://')")
    .message("http:// without a checksum takes whatever comes: add checksum, or use https://").field_path(".url"))]
pub struct HttpSource {
    /// An http:// or https:// URL without user and password, which do not belong into a manifest.
    #[schemars(
        length(min = 1, max = 2048),
        regex(pattern = r"^https?://[A-Za-z0-9._:\[\]-]+([/?][!-~]*)?$")
    )]
    pub url: String,
    /// sha256: and the 64 hexadecimal digits of the file's SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-fA-F]{64}$"))]
    pub checksum: Option<String>,
}

/// A file in a container image, or an artifact of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageSource {
    /// The image, as in a pod: registry, name, and a tag or a digest.
    #[schemars(length(min = 1, max = 512), regex(pattern = IMAGE_REFERENCE))]
    pub reference: String,
    /// Path of the file in the image; by default the first one in /disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = FILE_PATH))]
    pub path: Option<String>,
}

/// For people: without the part of a URL in which signatures are.
impl fmt::Display for ImportSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(http) = &self.http {
            let shown = http.url.split(['?', '#']).next().unwrap_or_default();
            return f.write_str(shown);
        }
        if let Some(image) = &self.image {
            write!(f, "image {}", image.reference)?;
            return match &image.path {
                Some(path) => write!(f, " ({path})"),
                None => Ok(()),
            };
        }
        let claim = self.claim.as_ref().map(|claim| claim.name.as_str());
        write!(f, "claim {}", claim.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_shown_without_what_gives_access() {
        let shown = |source: serde_json::Value| {
            let source: ImportSource = serde_json::from_value(source).expect("a source");
            source.to_string()
        };
        assert_eq!(
            shown(serde_json::json!({"http": {"url": "https://a.example/d.img?sig=secret#x"}})),
            "https://a.example/d.img"
        );
        assert_eq!(
            shown(serde_json::json!({"image": {"reference": "a.example/vm:1", "path": "disk/a"}})),
            "image a.example/vm:1 (disk/a)"
        );
        assert_eq!(
            shown(serde_json::json!({"claim": {"name": "golden"}})),
            "claim golden"
        );
    }
}
