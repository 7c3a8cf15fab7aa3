//! Character devices that many containers may share, or one has alone.

use super::{Selected, What};
use crate::host::{Host, matches};
use crate::listing::{Entry, Health, Key};
use crate::node::Node;
use crate::resource::Builtin;
use crate::settings::Chardev;

/// Each device once, by its name of the earliest selector: a link is another
/// name of it, and would be another device to the kubelet.
pub(super) fn select<'a>(chardevs: &[Chardev], host: &'a Host) -> Vec<Selected<'a>> {
    let found = chardevs.iter().flat_map(|chardev| {
        let nodes = host.nodes.iter();
        let there = nodes.filter(|(path, _)| matches(&chardev.glob, path));
        there.map(move |(path, rdev)| (*rdev, path, chardev))
    });
    let mut found: Vec<(u64, &String, &Chardev)> = found.collect();
    found.sort_by_key(|(rdev, ..)| *rdev);
    found.dedup_by_key(|(rdev, ..)| *rdev);
    let there = found.into_iter().map(|(rdev, path, chardev)| Selected {
        entry: entry(path, rdev, chardev.count),
        what: What::Node(rdev),
        line: chardev.line,
    });
    // One that is named and is not there is a device that is missing.
    let named = chardevs
        .iter()
        .filter(|chardev| !chardev.glob.contains(['*', '?']));
    let missing = named
        .filter(|chardev| !host.nodes.contains_key(&chardev.glob))
        .map(missing);
    there.chain(missing).collect()
}

fn missing(chardev: &Chardev) -> Selected<'static> {
    let entry = Entry {
        health: Health::unhealthy(format!("{chardev} is not there, or is no character device")),
        key: None,
        nodes: [].into(),
        ..entry(&chardev.glob, 0, chardev.count)
    };
    Selected {
        entry,
        what: What::Missing(chardev.to_string()),
        line: chardev.line,
    }
}

fn entry(path: &str, rdev: u64, count: u32) -> Entry {
    let alone = count == 1;
    Entry {
        slots: (!alone).then_some(count),
        key: alone.then_some(Key::Node(rdev)),
        nodes: [Node::alike("char/", path, rdev)].into(),
        ..Entry::new(&path.replace('/', "-"))
    }
}

/// A device of every node.
pub(super) fn builtin(builtin: &Builtin, count: u32, host: &Host) -> Entry {
    let name = builtin.name.rsplit('/').next().unwrap_or(builtin.name);
    let path = builtin.path;
    let node = |rdev: &u64| Node::alike("", path, *rdev);
    let nodes: Box<[Node]> = host.nodes.get(path).map(node).into_iter().collect();
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
