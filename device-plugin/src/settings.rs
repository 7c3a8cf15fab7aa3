//! The admin's configuration file: which devices of a node are which resource.
//! A text becomes settings, or every problem in it with its place; no files
//! and no devices are touched here.
//!
//! ```yaml
//! resources:
//!   - name: example.com/a10
//!     compatibility: kubevirt
//!     pci:
//!       - {vendor: "10de", device: "2236"}
//! ```

mod name;
mod read;
mod selectors;

use std::collections::BTreeMap;
use std::fmt;

use coracle_yaml::{Node, Position, Scalar, Value};

use crate::resource::{BUILTINS, Compatibility, Kind, Resource, env_name};
use read::{Fields, Reader};

pub(crate) use selectors::{Chardev, MdevSelector, PciSelector, Selectors, UsbSelector};

/// Most resources of a file.
const MAX_RESOURCES: usize = 100;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// In the file's order; no name is there twice.
    pub(crate) resources: Vec<Spec>,
}

/// A resource, and which devices it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) name: String,
    /// The line of its name.
    pub(crate) line: usize,
    pub(crate) compatibility: Vec<Compatibility>,
    pub(crate) selectors: Selectors,
}

impl Spec {
    /// What is the same for all of its devices.
    pub(crate) fn resource(&self) -> Resource {
        let kind = match &self.selectors {
            Selectors::Pci(_) => Kind::Pci,
            Selectors::Mdev(_) => Kind::Mdev,
            Selectors::Usb(_) => Kind::Usb,
            Selectors::Chardev(_) => Kind::Chardev,
        };
        Resource::new(&self.name, kind, self.compatibility.clone())
    }
}

/// One thing that is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// The column, counted from 1.
    pub(crate) column: usize,
    /// What is wrong, and how to mend it.
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, .. } = self;
        write!(f, "line {line}, column {column}: {}", self.message)
    }
}

/// Reads the text of a file. An empty one is one without resources.
pub(crate) fn parse(text: &str) -> Result<Settings, Vec<Problem>> {
    let mut reader = Reader::default();
    let mut settings = Settings::default();
    match coracle_yaml::documents(text) {
        Err(error) => reader.problem(error.at, error.message),
        Ok(documents) => {
            if let Some(second) = documents.get(1) {
                reader.problem(second.at, "a second document: the file has one");
            }
            if let Some(root) = documents.first() {
                settings.resources = reader.file(root);
            }
        }
    }
    if reader.problems.is_empty() {
        return Ok(settings);
    }
    reader
        .problems
        .sort_by_key(|problem| (problem.line, problem.column));
    Err(reader.problems)
}

impl Reader {
    fn file(&mut self, root: &Node) -> Vec<Spec> {
        let Some(mut fields) = self.fields(root, &["resources"]) else {
            return vec![];
        };
        let Some(resources) = self.required(&mut fields, "resources") else {
            return vec![];
        };
        // `resources:` with nothing after it: none yet.
        if matches!(resources.value, Value::Scalar(Scalar::Null, _)) {
            return vec![];
        }
        let items = self.list(resources);
        if items.len() > MAX_RESOURCES {
            let message = format!("{} resources: at most {MAX_RESOURCES}", items.len());
            self.problem(resources.at, message);
            return vec![];
        }
        let mut specs: Vec<Spec> = vec![];
        for item in items {
            if let Some((at, spec)) = self.spec(item) {
                self.unlike_others(at, &spec, &specs);
                specs.push(spec);
            }
        }
        specs
    }

    fn spec(&mut self, node: &Node) -> Option<(Position, Spec)> {
        let known = ["name", "compatibility", "pci", "mdev", "usb", "chardev"];
        let mut fields = self.fields(node, &known)?;
        let name = self.required(&mut fields, "name");
        let name = name.and_then(|node| Some((node.at, self.resource_name(node)?)));
        let compatibility = fields.take("compatibility");
        let compatibility = compatibility.map_or_else(Vec::new, |n| self.compatibility(n));
        let selectors = self.one_kind(node.at, &mut fields);
        let (at, name) = name?;
        let spec = Spec {
            name,
            line: at.line,
            compatibility,
            selectors: selectors?,
        };
        Some((at, spec))
    }

    fn resource_name(&mut self, node: &Node) -> Option<String> {
        let name = self.text(node)?;
        if let Err(problem) = name::check(&name) {
            self.problem(node.at, problem.to_string());
            return None;
        }
        Some(name)
    }

    /// Two resources must differ in their names and in their variables.
    fn unlike_others(&mut self, at: Position, spec: &Spec, others: &[Spec]) {
        let name = &spec.name;
        let variable = env_name(name);
        let builtin = BUILTINS.iter().map(|builtin| builtin.name);
        let builtin = builtin.chain([
            coracle_api::names::RESOURCE_KVM,
            coracle_api::names::RESOURCE_KVM_PROBE,
        ]);
        for other in builtin {
            if other == name {
                self.problem(at, format!("{name} is built in: choose another name"));
            } else if env_name(other) == variable {
                let message = format!(
                    "{name} and the built-in {other} would both be {variable} in a container: \
                     choose another name"
                );
                self.problem(at, message);
            }
        }
        for other in others {
            let line = other.line;
            if other.name == *name {
                let message = format!(
                    "{name} is there twice, first in line {line}: put both selectors into one"
                );
                self.problem(at, message);
            } else if env_name(&other.name) == variable {
                let message = format!(
                    "{name} and {} (line {line}) would both be {variable} in a container: choose \
                     another name",
                    other.name
                );
                self.problem(at, message);
            }
        }
    }

    /// One word or a list of them.
    fn compatibility(&mut self, node: &Node) -> Vec<Compatibility> {
        let words: Vec<&Node> = match &node.value {
            Value::List(items) => items.iter().collect(),
            _ => vec![node],
        };
        let known = BTreeMap::from([
            ("kubevirt", Some(Compatibility::Kubevirt)),
            ("none", None),
            ("sriov", Some(Compatibility::Sriov)),
        ]);
        let mut all = vec![];
        for word in words {
            all.extend(self.word(word, &known).flatten());
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// A resource has devices of one kind: what a container gets depends on it.
    fn one_kind(&mut self, at: Position, fields: &mut Fields<'_>) -> Option<Selectors> {
        let kinds = ["pci", "mdev", "usb", "chardev"];
        let mut given = kinds
            .into_iter()
            .filter_map(|kind| Some((kind, fields.take(kind)?)));
        let first = given.next();
        let second = given.next();
        let Some((kind, node)) = first else {
            let message = "which devices? add one of \"pci\", \"mdev\", \"usb\", \"chardev\"";
            self.problem(at, message);
            return None;
        };
        if let Some((other, node)) = second {
            let message = format!(
                "both {kind:?} and {other:?}: a resource has devices of one kind; make two of it"
            );
            self.problem(node.at, message);
            return None;
        }
        self.selectors(kind, node)
    }
}

#[cfg(test)]
mod tests;
