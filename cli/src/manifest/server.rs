//! What the API server would say of manifests, without one.
//!
//! The words are its own: those of the structural schema (apiextensions v1,
//! kube-openapi's validation), of strict field validation, and of our CEL
//! rules, in the order in which the server asks. Other kinds than ours are
//! left to it.

use coracle_api::names::{GROUP, VERSION};
use coracle_api::vm::{VirtualMachine, broken_rules, validate};
use coracle_yaml::{Node, Position, Scalar, Value, did_you_mean, documents};
use serde_json::Value as Json;

use super::Source;
use super::kinds::Kind;
use super::problem::Problem;
use super::schema::plain;

mod schema;

/// What came of a check.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What is wrong, in the order of files and lines.
    pub problems: Vec<Problem>,
    /// How many VMs there are.
    pub vms: usize,
    /// How many objects of other kinds, which nobody has looked at.
    pub others: usize,
}

/// Checks every VM of the files.
#[must_use]
pub fn check(sources: &[Source]) -> Checked {
    let mut checked = Checked::default();
    for source in sources {
        let problem = |at: Position, message: String| Problem {
            file: source.name.clone(),
            at: Some(at),
            path: String::new(),
            message,
        };
        let nodes = match documents(&source.text) {
            Ok(nodes) => nodes,
            Err(error) => {
                checked.problems.push(problem(error.at, error.message));
                continue;
            }
        };
        for node in &nodes {
            match kind(node) {
                Ok(true) => checked.vms += 1,
                Ok(false) => {
                    checked.others += 1;
                    continue;
                }
                Err(message) => {
                    checked.problems.push(problem(node.at, message));
                    continue;
                }
            }
            let mut found = document(node);
            found.sort();
            checked
                .problems
                .extend(found.into_iter().map(|(at, message)| problem(at, message)));
        }
    }
    checked
}

fn field<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let mut entries = entries.iter();
    entries
        .find(|(key, _)| key.text == name)
        .map(|(_, value)| value)
}

fn text<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    match &field(node, name)?.value {
        Value::Scalar(Scalar::Text(text), _) => Some(text),
        _ => None,
    }
}

/// Whether a document is a VM; an error when it is nothing at all, or a VM of
/// a version that there is none of.
fn kind(node: &Node) -> Result<bool, String> {
    let (Some(version), Some(kind)) = (text(node, "apiVersion"), text(node, "kind")) else {
        return Err("not a Kubernetes object: it needs the fields apiVersion and kind".to_owned());
    };
    let ours = format!("{GROUP}/{VERSION}");
    let known = Kind::VirtualMachine.name();
    if version == ours && kind != known {
        let meant = did_you_mean(kind, [known]);
        return Err(no_match(kind, version) + &meant);
    }
    if version != ours && version.starts_with(&format!("{GROUP}/")) {
        return Err(format!("{}: there is {ours}", no_match(kind, version)));
    }
    Ok(version == ours)
}

/// As kubectl says it.
fn no_match(kind: &str, version: &str) -> String {
    format!("no matches for kind {kind:?} in version {version:?}")
}

/// What is wrong with a VM's document.
fn document(node: &Node) -> Vec<(Position, String)> {
    let schema = Kind::VirtualMachine.schema();
    let mut walk = schema::Walk::default();
    walk.node(&schema, node, "");
    name(node, &mut walk);
    if !walk.found.is_empty() {
        // The server does not ask the rules of an object that its schema
        // refuses either.
        return walk.found;
    }
    let vm: VirtualMachine = match typed(node) {
        Ok(vm) => vm,
        Err(message) => return vec![(node.at, message)],
    };
    let mut broken = broken_rules(&vm);
    if broken.is_empty() {
        // What only the controller would refuse.
        broken = validate(&vm);
    }
    broken
        .into_iter()
        .map(|problem| {
            let at = walk.position(&problem.path).unwrap_or(node.at);
            (at, said(&problem.path, &problem.message))
        })
        .collect()
}

fn typed(node: &Node) -> Result<VirtualMachine, String> {
    let value = without_nulls(plain(&node.value));
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        said(&path, &error.into_inner().to_string())
    })
}

/// A null is the same as no field, once the schema lets it through.
fn without_nulls(value: Json) -> Json {
    match value {
        Json::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Json::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// `spec.disks: Invalid value: two disks have the same bootOrder`.
fn said(path: &str, message: &str) -> String {
    format!("{path}: Invalid value: {message}")
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
     characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
     'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// The name of an object, which no schema speaks of.
fn name(node: &Node, walk: &mut schema::Walk) {
    let metadata = field(node, "metadata");
    let at = metadata.map_or(node.at, |metadata| metadata.at);
    let name = metadata.and_then(|metadata| text(metadata, "name"));
    let generated = metadata.and_then(|metadata| text(metadata, "generateName"));
    match name {
        None | Some("") if generated.is_none() => walk.found.push((
            at,
            "metadata.name: Required value: name or generateName is required".to_owned(),
        )),
        Some(name) if !name.is_empty() && !crate::volume::is_object_name(name) => {
            let at = metadata.and_then(|metadata| field(metadata, "name"));
            let at = at.map_or(node.at, |at| at.at);
            let message = format!("metadata.name: Invalid value: {name:?}: {SUBDOMAIN}");
            walk.found.push((at, message));
        }
        _ => {}
    }
}

/// A value as the server prints it.
fn printed(value: &Json) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
