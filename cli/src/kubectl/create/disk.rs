//! `--disk NAME=SOURCE[,FIELD=VALUE…]`.

use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};

use super::read;
use crate::kubectl::error::PluginError;

/// Where a disk's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DiskSource {
    Claim(String),
    Ephemeral(String),
    Image(String),
    CloudInit(PathBuf),
    Secret(String),
}

/// A disk as it is written on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskArg {
    name: String,
    source: DiskSource,
    /// Further fields, as the manifest spells them.
    fields: Vec<(String, String)>,
}

impl FromStr for DiskArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?}: write NAME=claim:CLAIM, NAME=image:REFERENCE, NAME=ephemeral:SIZE, \
                 NAME=cloud-init:FILE or NAME=secret:SECRET"
            )
        };
        let mut parts = text.split(',');
        let (name, source) = parts
            .next()
            .unwrap_or_default()
            .split_once('=')
            .ok_or_else(wrong)?;
        let (kind, what) = source.split_once(':').ok_or_else(wrong)?;
        let what = what.to_owned();
        let source = match kind {
            "claim" => DiskSource::Claim(what),
            "ephemeral" => DiskSource::Ephemeral(what),
            "image" => DiskSource::Image(what),
            "cloud-init" => DiskSource::CloudInit(what.into()),
            "secret" => DiskSource::Secret(what),
            _ => return Err(wrong()),
        };
        let fields = parts.map(|part| match part.split_once('=') {
            Some((field, value)) => Ok((field.to_owned(), value.to_owned())),
            None => Err(format!("{part:?}: write FIELD=VALUE, as bus=Scsi")),
        });
        Ok(Self {
            name: name.to_owned(),
            source,
            fields: fields.collect::<Result<_, _>>()?,
        })
    }
}

impl DiskArg {
    /// The entry of `spec.disks`.
    pub(super) fn field(&self) -> Result<Value, PluginError> {
        let mut field = match &self.source {
            DiskSource::Claim(name) => json!({"claim": {"name": name}}),
            DiskSource::Ephemeral(size) => json!({"ephemeral": {"size": size}}),
            DiskSource::Image(reference) => json!({"image": {"reference": reference}}),
            DiskSource::CloudInit(path) => json!({"cloudInit": {"userData": read(path)?}}),
            DiskSource::Secret(name) => {
                json!({"cloudInit": {"userDataFrom": {"secretName": name}}})
            }
        };
        field["name"] = json!(self.name);
        for (name, value) in &self.fields {
            // Numbers and truth values are written as such.
            let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
            field[name.as_str()] = value;
        }
        Ok(field)
    }
}
