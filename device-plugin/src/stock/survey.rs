//! One look at the node and at the configuration file. Blocks; makes what a
//! container needs to get the devices, unless it is only to look.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::check::chain;
use crate::config::{Config, Grant};
use crate::grant;
use crate::host::{Host, scan};
use crate::inventory::{Inventory, builtins};
use crate::listing::{Entry, Health};
use crate::node::Node;
use crate::settings::{Problem, Settings, parse};

/// The longest configuration file.
const MAX_FILE: u64 = 1 << 20;

/// Why the configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is longer than {MAX_FILE} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("{}", lines(path, problems))]
    Invalid {
        path: PathBuf,
        problems: Vec<Problem>,
    },
}

fn lines(path: &Path, problems: &[Problem]) -> String {
    let line = |problem: &Problem| format!("{}: {problem}", path.display());
    let lines: Vec<_> = problems.iter().map(line).collect();
    lines.join("\n")
}

/// The file's text, and what it says.
pub(crate) fn load(path: &Path) -> Result<(String, Result<Settings, FileError>), FileError> {
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        let path = path.to_owned();
        return Err(FileError::TooLong { path });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let settings = parse(&text).map_err(|problems| FileError::Invalid {
        path: path.to_owned(),
        problems,
    });
    Ok((text, settings))
}

/// What one look has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    pub(crate) host: Host,
    pub(crate) inventory: Inventory,
}

/// Looks at the node, and makes what is to be made unless it only looks.
pub(crate) fn survey(config: &Config, settings: &Settings, make: bool) -> Survey {
    let host = scan(&config.roots, settings, &super::builtin_paths());
    let mut inventory = Inventory::take(settings, &builtins(config.counts), &host);
    if make {
        provide(&config.grant, &mut inventory);
    }
    Survey { host, inventory }
}

/// Makes nodes or specifications. A device for which that fails is unhealthy.
fn provide(given_by: &Grant, inventory: &mut Inventory) {
    for (resource, entries) in &mut inventory.resources {
        match given_by {
            Grant::Node { dir } => {
                for entry in entries.iter_mut() {
                    if let Err(error) = grant::place(dir, &entry.nodes) {
                        unhealthy(entry, &chain(&error));
                    }
                }
            }
            Grant::Cdi { dir } => {
                let there = entries.iter().filter(|entry| !entry.nodes.is_empty());
                let devices: Vec<(&str, &[Node])> =
                    there.map(|entry| (&*entry.id, &*entry.nodes)).collect();
                if let Err(error) = grant::specify(dir, &resource.name, &devices) {
                    let reason = chain(&error);
                    for entry in entries.iter_mut() {
                        unhealthy(entry, &reason);
                    }
                }
            }
        }
    }
    let resources = inventory.resources.iter();
    let names: BTreeSet<&str> = resources
        .map(|(resource, _)| resource.name.as_str())
        .chain([coracle_api::names::RESOURCE_KVM])
        .collect();
    let entries = inventory.resources.iter().flat_map(|(_, entries)| entries);
    let nodes = entries.flat_map(|entry| &entry.nodes);
    let nodes: BTreeSet<String> = nodes.map(Node::own).collect();
    grant::tidy(given_by, &nodes, &names);
}

/// What is wrong already is wrong first.
fn unhealthy(entry: &mut Arc<Entry>, reason: &str) {
    if entry.health == Health::Healthy {
        *entry = entry.with(Health::unhealthy(reason));
    }
}
