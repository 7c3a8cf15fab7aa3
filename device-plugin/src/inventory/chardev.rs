//! Character devices that many containers may share, or one has alone.

use super::Selected;
use crate::host::{Host, matches};
use crate::listing::{Entry, Health, Key, Node};
use crate::resource::Builtin;
use crate::settings::Chardev;

pub(super) fn select(chardevs: &[Chardev], host: &Host) -> Vec<Selected> {
    let mut all = vec![];
    for (path, rdev) in &host.nodes {
        let chardev = chardevs.iter().find(|chardev| matches(&chardev.glob, path));
        if let Some(chardev) = chardev {
            all.push(Selected {
                entry: entry(path, *rdev, chardev.count),
                what: format!("character device {}", numbers(*rdev)),
                line: chardev.line,
            });
        }
    }
    // One that is named and is not there is a device that is missing.
    for chardev in chardevs
        .iter()
        .filter(|chardev| !chardev.glob.contains(['*', '?']))
    {
        if !host.nodes.contains_key(&chardev.glob) {
            let reason = format!("{chardev} is not there, or is no character device");
            all.push(Selected {
                entry: Entry {
                    health: Health::Unhealthy { reason },
                    nodes: vec![],
                    ..entry(&chardev.glob, 0, chardev.count)
                },
                what: chardev.to_string(),
                line: chardev.line,
            });
        }
    }
    all.sort_by(|one, other| one.entry.id.cmp(&other.entry.id));
    all
}

fn numbers(rdev: u64) -> String {
    let (major, minor) = (nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev));
    format!("{major}:{minor}")
}

fn entry(path: &str, rdev: u64, count: u32) -> Entry {
    let alone = count == 1;
    Entry {
        slots: (!alone).then_some(count),
        key: alone.then(|| Key::Node(path.to_owned())),
        nodes: vec![Node {
            own: format!("char/{path}"),
            container: format!("/dev/{path}"),
            rdev,
        }],
        ..Entry::new(&path.replace('/', "-"))
    }
}

/// A device of every node.
pub(super) fn builtin(builtin: &Builtin, count: u32, host: &Host) -> Entry {
    let name = builtin.name.rsplit('/').next().unwrap_or(builtin.name);
    let path = builtin.path;
    let node = |rdev: &u64| Node {
        own: path.to_owned(),
        container: format!("/dev/{path}"),
        rdev: *rdev,
    };
    let nodes: Vec<Node> = host.nodes.get(path).map(node).into_iter().collect();
    let missing = || {
        let hint = builtin.hint;
        Health::unhealthy(format!("/dev/{path} is not there: {hint}"))
    };
    Entry {
        slots: Some(count),
        health: if nodes.is_empty() {
            missing()
        } else {
            Health::Healthy
        },
        nodes,
        ..Entry::new(name)
    }
}
