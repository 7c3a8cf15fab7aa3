//! One document: its kind is found, it is read against the kind's schema, and
//! becomes a typed object that keeps every rule.

use coracle_api::vm::{self, VirtualMachine};
use coracle_yaml::{Node, Scalar, Value, did_you_mean, quoted};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value as Json;

use super::kinds::Kind;
use super::problem::Problem;
use super::rules;
use super::schema::Read;

/// A typed object.
#[derive(Debug)]
pub(super) enum Object {
    Vm(Box<VirtualMachine>),
    Claim(Box<PersistentVolumeClaim>),
    Secret(Box<Secret>),
    ConfigMap(Box<ConfigMap>),
}

impl Object {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Vm(_) => Kind::VirtualMachine,
            Self::Claim(_) => Kind::PersistentVolumeClaim,
            Self::Secret(_) => Kind::Secret,
            Self::ConfigMap(_) => Kind::ConfigMap,
        }
    }

    pub(super) fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Vm(object) => &object.metadata,
            Self::Claim(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::ConfigMap(object) => &object.metadata,
        }
    }
}

/// A document without a fault of its own.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) object: Object,
    file: String,
    read: Read,
}

fn field<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    entries
        .iter()
        .find(|(key, _)| key.text == name)
        .map(|(_, value)| value)
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar(Scalar::Text(text), _) => Some(text),
        _ => None,
    }
}

impl Document {
    /// Reads a document, or tells everything that is wrong with it.
    pub(super) fn read(file: &str, node: &Node) -> Result<Self, Vec<Problem>> {
        let kind = recognize(file, node).map_err(|problem| vec![problem])?;
        let mut read = Read::default();
        let json = read.node(&kind.schema(), node, "");
        if !read.problems.is_empty() {
            read.problems.sort();
            let problems = read
                .problems
                .into_iter()
                .map(|(at, path, message)| Problem {
                    file: file.into(),
                    at: Some(at),
                    path,
                    message,
                });
            return Err(problems.collect());
        }
        let typed = typed(kind, json);
        let (object, findings) = match typed {
            Ok(object) => {
                let findings = check(&object);
                (Some(object), findings)
            }
            Err(finding) => (None, vec![finding]),
        };
        match object {
            Some(object) if findings.is_empty() => Ok(Self {
                object,
                file: file.into(),
                read,
            }),
            _ => Err(findings
                .into_iter()
                .map(|(path, message)| problem(file, &read, &path, message))
                .collect()),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.object.metadata().name.as_deref().unwrap_or_default()
    }

    pub(super) fn vm(&self) -> Option<&VirtualMachine> {
        match &self.object {
            Object::Vm(vm) => Some(vm),
            _ => None,
        }
    }

    /// A problem of this document, at the line of the field.
    pub(super) fn problem(&self, path: &str, message: impl Into<String>) -> Problem {
        problem(&self.file, &self.read, path, message)
    }

    /// `vm.yaml:12`.
    pub(super) fn place(&self) -> String {
        let line = self.read.position("").map_or(0, |at| at.line);
        format!("{}:{line}", self.file)
    }
}

fn problem(file: &str, read: &Read, path: &str, message: impl Into<String>) -> Problem {
    Problem {
        file: file.into(),
        at: read.position(path),
        path: path.into(),
        message: message.into(),
    }
}

/// The kind of a document, by its `apiVersion` and `kind`.
fn recognize(file: &str, node: &Node) -> Result<Kind, Problem> {
    let problem = |at: &Node, path: &str, message: String| Problem {
        file: file.into(),
        at: Some(at.at),
        path: path.into(),
        message,
    };
    if !matches!(node.value, Value::Map(_)) {
        let message = "not a Kubernetes object: it has no fields apiVersion, kind, metadata";
        return Err(problem(node, "", message.into()));
    }
    let (Some(kind_field), Some(version)) = (field(node, "kind"), field(node, "apiVersion")) else {
        let message = "not a Kubernetes object: it needs the fields apiVersion and kind";
        return Err(problem(node, "", message.into()));
    };
    let name = text(kind_field).unwrap_or_default();
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
        let names = || Kind::ALL.into_iter().map(Kind::name);
        let (list, meant) = (quoted(names()), did_you_mean(name, names()));
        let message = format!("unknown kind {name:?}: allowed are {list}{meant}");
        return Err(problem(kind_field, "kind", message));
    };
    let wanted = kind.api_version();
    match text(version) {
        Some(found) if found == wanted => Ok(kind),
        found => {
            let found = found.unwrap_or_default();
            let message = format!("a {name} of version {found:?} is not known: write {wanted}");
            Err(problem(version, "apiVersion", message))
        }
    }
}

fn typed(kind: Kind, json: Json) -> Result<Object, rules::Finding> {
    Ok(match kind {
        Kind::VirtualMachine => Object::Vm(from_json(json)?),
        Kind::PersistentVolumeClaim => Object::Claim(from_json(json)?),
        Kind::Secret => Object::Secret(from_json(json).map(fold)?),
        Kind::ConfigMap => Object::ConfigMap(from_json(json)?),
    })
}

/// What the schema could not find: encodings, and numbers too large for their
/// type.
fn from_json<T: serde::de::DeserializeOwned>(json: Json) -> Result<Box<T>, rules::Finding> {
    serde_path_to_error::deserialize(json)
        .map(Box::new)
        .map_err(|error| {
            let path = match error.path().to_string() {
                path if path == "." => String::new(),
                path => path,
            };
            (path, error.into_inner().to_string())
        })
}

/// `stringData` is for writing only: its entries win over `data`'s.
fn fold(mut secret: Box<Secret>) -> Box<Secret> {
    if let Some(texts) = secret.string_data.take() {
        let bytes = texts
            .into_iter()
            .map(|(key, text)| (key, ByteString(text.into_bytes())));
        secret.data.get_or_insert_default().extend(bytes);
    }
    secret
}

fn check(object: &Object) -> Vec<rules::Finding> {
    let name = |kind| rules::check_name(kind, object.metadata());
    match object {
        Object::Vm(vm) => {
            let problems = vm::validate(vm).into_iter();
            problems
                .map(|problem| (problem.path, problem.message))
                .collect()
        }
        Object::Claim(claim) => name(object.kind())
            .into_iter()
            .chain(rules::check_claim(claim))
            .collect(),
        Object::Secret(secret) => {
            let keys = secret.data.iter().flatten().map(|(key, _)| key);
            name(object.kind())
                .into_iter()
                .chain(rules::check_keys("data", keys))
                .collect()
        }
        Object::ConfigMap(map) => {
            let texts = map.data.iter().flatten().map(|(key, _)| key);
            let bytes = map.binary_data.iter().flatten().map(|(key, _)| key);
            let found = rules::check_keys("data", texts).into_iter();
            let found = found.chain(rules::check_keys("binaryData", bytes));
            name(object.kind()).into_iter().chain(found).collect()
        }
    }
}
