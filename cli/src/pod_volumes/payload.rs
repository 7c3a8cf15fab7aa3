//! What goes into the files of a `downwardAPI`, `secret` or `configMap`
//! volume. Pure: reads objects, writes nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, DownwardAPIVolumeSource, KeyToPath, Pod, Secret,
    SecretVolumeSource,
};

use super::PodVolumeError;

/// The kubelet's default for all three kinds.
const DEFAULT_MODE: i32 = 0o644;

/// Files by their path in the volume.
pub(super) type Payload = BTreeMap<String, PayloadFile>;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PayloadFile {
    pub(super) mode: u32,
    pub(super) bytes: Vec<u8>,
}

fn add(
    payload: &mut Payload,
    volume: &str,
    path: &str,
    mode: i32,
    bytes: Vec<u8>,
) -> Result<(), PodVolumeError> {
    let part = |part: &str| {
        !part.is_empty() && part != "." && !part.starts_with("..") && part.len() <= 255
    };
    if !path.split('/').all(part) || path.contains('\0') {
        return Err(PodVolumeError::FilePath {
            volume: volume.into(),
            path: path.into(),
        });
    }
    let bits = u32::try_from(mode).ok().filter(|bits| *bits <= 0o777);
    let mode = bits.ok_or_else(|| PodVolumeError::Mode {
        volume: volume.into(),
        mode,
    })?;
    payload.insert(path.into(), PayloadFile { mode, bytes });
    Ok(())
}

/// The pod's own metadata as files.
pub(super) fn downward_api(
    pod: &Pod,
    volume: &str,
    source: &DownwardAPIVolumeSource,
) -> Result<Payload, PodVolumeError> {
    let default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let mut payload = Payload::new();
    for item in source.items.iter().flatten() {
        let unsupported = |field: &str| PodVolumeError::UnsupportedField {
            volume: volume.into(),
            field: field.into(),
        };
        let field = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => reference.field_path.as_str(),
            (None, Some(reference)) => return Err(unsupported(&reference.resource)),
            (None, None) => return Err(unsupported("")),
        };
        let text = field_text(pod, field).ok_or_else(|| unsupported(field))?;
        let mode = item.mode.unwrap_or(default_mode);
        add(&mut payload, volume, &item.path, mode, text.into_bytes())?;
    }
    Ok(payload)
}

/// The text of a field; `None` for a field that cannot be shown. A label or
/// annotation that is not there is an empty file, as with the kubelet.
fn field_text(pod: &Pod, field: &str) -> Option<String> {
    let metadata = &pod.metadata;
    let subscript = |prefix: &str| field.strip_prefix(prefix)?.strip_suffix("']");
    let value = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref()
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default()
    };
    if let Some(key) = subscript("metadata.annotations['") {
        return Some(value(&metadata.annotations, key));
    }
    if let Some(key) = subscript("metadata.labels['") {
        return Some(value(&metadata.labels, key));
    }
    Some(match field {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(metadata.labels.as_ref()),
        "metadata.annotations" => lines(metadata.annotations.as_ref()),
        _ => return None,
    })
}

/// `key="value"` lines, sorted, as the kubelet writes maps.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", quote(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Go's `%q`, which differs from Rust's `{:?}` in the control characters.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            c if c.is_ascii_control() => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Where a volume's keys come from, for messages and look-ups.
struct Origin<'a> {
    volume: &'a str,
    kind: &'static str,
    name: &'a str,
    optional: bool,
}

impl Origin<'_> {
    fn payload(
        &self,
        keys: Option<BTreeMap<&str, &[u8]>>,
        items: Option<&[KeyToPath]>,
        default_mode: i32,
    ) -> Result<Payload, PodVolumeError> {
        let mut payload = Payload::new();
        let Some(keys) = keys else {
            return if self.optional {
                Ok(payload)
            } else {
                Err(self.not_found())
            };
        };
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            for (key, bytes) in keys {
                add(&mut payload, self.volume, key, default_mode, bytes.to_vec())?;
            }
            return Ok(payload);
        };
        for item in items {
            let mode = item.mode.unwrap_or(default_mode);
            match keys.get(item.key.as_str()) {
                Some(bytes) => add(&mut payload, self.volume, &item.path, mode, bytes.to_vec())?,
                None if self.optional => {}
                None => return Err(self.no_key(&item.key, &keys)),
            }
        }
        Ok(payload)
    }

    fn not_found(&self) -> PodVolumeError {
        PodVolumeError::NotFound {
            volume: self.volume.into(),
            kind: self.kind,
            name: self.name.into(),
        }
    }

    fn no_key(&self, key: &str, keys: &BTreeMap<&str, &[u8]>) -> PodVolumeError {
        let known = match keys.keys().copied().collect::<Vec<_>>() {
            known if known.is_empty() => "none".into(),
            known => known.join(", "),
        };
        PodVolumeError::NoKey {
            volume: self.volume.into(),
            kind: self.kind,
            name: self.name.into(),
            key: key.into(),
            known,
        }
    }
}

/// A secret's keys as files.
pub(super) fn secret(
    volume: &str,
    source: &SecretVolumeSource,
    secrets: &BTreeMap<String, Secret>,
) -> Result<Payload, PodVolumeError> {
    let unnamed = || PodVolumeError::Unnamed {
        volume: volume.into(),
        kind: "Secret",
    };
    let name = source.secret_name.as_deref().ok_or_else(unnamed)?;
    let optional = source.optional.unwrap_or(false);
    let keys = secrets.get(name).map(|secret| {
        let data = secret.data.iter().flatten();
        data.map(|(key, value)| (key.as_str(), value.0.as_slice()))
            .collect()
    });
    Origin {
        volume,
        kind: "Secret",
        name,
        optional,
    }
    .payload(
        keys,
        source.items.as_deref(),
        source.default_mode.unwrap_or(DEFAULT_MODE),
    )
}

/// A config map's keys as files.
pub(super) fn config_map(
    volume: &str,
    source: &ConfigMapVolumeSource,
    config_maps: &BTreeMap<String, ConfigMap>,
) -> Result<Payload, PodVolumeError> {
    let optional = source.optional.unwrap_or(false);
    let keys = config_maps.get(&source.name).map(|map| {
        let text = map
            .data
            .iter()
            .flatten()
            .map(|(key, text)| (key.as_str(), text.as_bytes()));
        let binary = map.binary_data.iter().flatten();
        text.chain(binary.map(|(key, bytes)| (key.as_str(), bytes.0.as_slice())))
            .collect()
    });
    Origin {
        volume,
        kind: "ConfigMap",
        name: &source.name,
        optional,
    }
    .payload(
        keys,
        source.items.as_deref(),
        source.default_mode.unwrap_or(DEFAULT_MODE),
    )
}
