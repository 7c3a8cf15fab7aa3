//! Manifests: the `VirtualMachine` to run and the claims, secrets and config
//! maps it names, from YAML files as `kubectl apply` takes them.
//!
//! Stricter than a cluster: an unknown field is an error, where the API server
//! would drop it. Nothing that a cluster refuses is accepted, and it is refused
//! with the same words, with the line it is in. All problems of all files are
//! reported at once. Reads only; whether paths and devices exist is not its
//! business.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use coracle_api::vm::VirtualMachine;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

mod document;
mod kinds;
mod problem;
mod rules;
mod schema;
pub mod server;

pub use coracle_yaml::Position;
pub use problem::{ManifestError, Problem};

use document::{Document, Object};
use kinds::Kind;

/// Where objects are that do not say it.
const DEFAULT_NAMESPACE: &str = "default";

/// Everything that was read. All objects are in the VM's namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifests {
    /// The VM; its namespace is filled in.
    pub vm: VirtualMachine,
    /// Claims by name.
    pub claims: BTreeMap<String, PersistentVolumeClaim>,
    /// Secrets by name; `stringData` is in `data`, as the API server does it.
    pub secrets: BTreeMap<String, Secret>,
    /// Config maps by name.
    pub config_maps: BTreeMap<String, ConfigMap>,
}

/// The text of one file.
#[derive(Clone, Debug)]
pub struct Source {
    /// As it is named in messages.
    pub name: String,
    /// YAML, any number of documents.
    pub text: String,
}

impl Manifests {
    /// Reads files; `-` is standard input.
    pub fn load(paths: &[PathBuf]) -> Result<Self, ManifestError> {
        let sources: Result<Vec<_>, _> = paths.iter().map(|path| read(path)).collect();
        Self::parse(&sources?)
    }

    /// Reads texts. The order of documents and files does not matter.
    pub fn parse(sources: &[Source]) -> Result<Self, ManifestError> {
        let mut reader = Reader::default();
        for source in sources {
            reader.source(source);
        }
        reader
            .finish(sources)
            .map_err(|problems| ManifestError::Invalid { problems })
    }
}

/// Reads a file; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Source, ManifestError> {
    let stdin = path == Path::new("-");
    let text = if stdin {
        io::read_to_string(io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|source| ManifestError::Read {
        path: path.into(),
        source,
    })?;
    let name = if stdin {
        "<stdin>".into()
    } else {
        path.display().to_string()
    };
    Ok(Source { name, text })
}

#[derive(Default)]
struct Reader {
    documents: Vec<Document>,
    problems: Vec<Problem>,
}

impl Reader {
    fn source(&mut self, source: &Source) {
        let nodes = match coracle_yaml::documents(&source.text) {
            Ok(nodes) => nodes,
            Err(error) => {
                self.problems.push(Problem {
                    file: source.name.clone(),
                    at: Some(error.at),
                    path: String::new(),
                    message: error.message,
                });
                return;
            }
        };
        for node in nodes {
            match Document::read(&source.name, &node) {
                Ok(document) => self.add(document),
                Err(problems) => self.problems.extend(problems),
            }
        }
    }

    fn add(&mut self, document: Document) {
        let same_kind = |other: &&Document| other.object.kind() == document.object.kind();
        let mut others = self.documents.iter().filter(same_kind);
        let (kind, name) = (document.object.kind().name(), document.name());
        let twice = match document.object {
            Object::Vm(_) => others.next().map(|first| {
                format!(
                    "a second VirtualMachine, {name:?} (the first, {:?}, is in {}); one is run at \
                     a time",
                    first.name(),
                    first.place()
                )
            }),
            _ => others.find(|other| other.name() == name).map(|first| {
                format!(
                    "the {kind} {name:?} is there twice, first in {}",
                    first.place()
                )
            }),
        };
        match twice {
            Some(message) => self.problems.push(document.problem("", message)),
            None => self.documents.push(document),
        }
    }

    fn finish(mut self, sources: &[Source]) -> Result<Manifests, Vec<Problem>> {
        let vm = self.documents.iter().find_map(Document::vm).cloned();
        // A VM that could not be read is not missing.
        if vm.is_none() && self.problems.is_empty() {
            self.problems.push(no_vm(sources));
        }
        if let Some(vm) = &vm {
            self.check_together(vm);
        }
        match vm {
            Some(vm) if self.problems.is_empty() => Ok(collect(vm, self.documents)),
            _ => Err(self.problems),
        }
    }

    fn check_together(&mut self, vm: &VirtualMachine) {
        let namespace = namespace_of(&vm.metadata);
        for document in &self.documents {
            let other = document.object.metadata().namespace.as_deref();
            if other.is_some_and(|other| other != namespace) && document.vm().is_none() {
                let message = format!(
                    "must be {namespace:?}, the VM's own: a VM uses objects of its namespace only"
                );
                self.problems
                    .push(document.problem("metadata.namespace", message));
            }
        }
        // What is missing may be in what could not be read.
        let complete = self.problems.is_empty();
        let has = |kind, name: &str| {
            self.documents
                .iter()
                .any(|doc| doc.object.kind() == kind && doc.name() == name)
        };
        if let Some(document) = self
            .documents
            .iter()
            .find(|doc| doc.vm().is_some() && complete)
        {
            let missing = rules::check_references(vm, has);
            let missing = missing
                .into_iter()
                .map(|(path, text)| document.problem(&path, text));
            self.problems.extend(missing);
        }
    }
}

fn namespace_of(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE)
}

fn no_vm(sources: &[Source]) -> Problem {
    let files: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
    let (kind, version) = (
        Kind::VirtualMachine.name(),
        Kind::VirtualMachine.api_version(),
    );
    Problem {
        file: if files.is_empty() {
            "no file".into()
        } else {
            files.join(", ")
        },
        at: None,
        path: String::new(),
        message: format!(
            "no VirtualMachine; add a document with apiVersion: {version}, kind: {kind}"
        ),
    }
}

fn collect(mut vm: VirtualMachine, documents: Vec<Document>) -> Manifests {
    let namespace = namespace_of(&vm.metadata).to_owned();
    vm.metadata.namespace = Some(namespace.clone());
    let mut manifests = Manifests {
        vm,
        claims: BTreeMap::new(),
        secrets: BTreeMap::new(),
        config_maps: BTreeMap::new(),
    };
    for document in documents {
        let name = document.name().to_owned();
        let namespace = Some(namespace.clone());
        match document.object {
            Object::Vm(_) => {}
            Object::Claim(mut claim) => {
                claim.metadata.namespace = namespace;
                manifests.claims.insert(name, *claim);
            }
            Object::Secret(mut secret) => {
                secret.metadata.namespace = namespace;
                manifests.secrets.insert(name, *secret);
            }
            Object::ConfigMap(mut map) => {
                map.metadata.namespace = namespace;
                manifests.config_maps.insert(name, *map);
            }
        }
    }
    manifests
}

#[cfg(test)]
mod tests;
