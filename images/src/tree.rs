//! A root file system in memory, and its tar form.
//!
//! Guarantees: the tar depends on paths, modes, owners and contents only.
//! Entries are sorted, every entry carries the one given time, and nothing
//! of the host (names, ids, times) gets in.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use tar::{Builder, EntryType, Header};

/// What one path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file with its contents.
    File(Rc<[u8]>),
    /// A symbolic link with its target as written.
    Symlink(String),
}

/// One path's kind, permission bits and owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// User and group id, always the same number here.
    pub owner: u64,
}

/// Paths without a leading slash, parents before their children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Puts `node` at `path`, with the directories above it where they miss.
    pub fn insert(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            self.nodes.entry(path[..end].to_owned()).or_insert(Node {
                kind: Kind::Directory,
                mode: 0o755,
                owner: 0,
            });
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// An empty directory.
    pub fn directory(&mut self, path: &str, mode: u32, owner: u64) {
        self.insert(
            path,
            Node {
                kind: Kind::Directory,
                mode,
                owner,
            },
        );
    }

    /// A file of root's.
    pub fn file(&mut self, path: &str, mode: u32, contents: impl Into<Rc<[u8]>>) {
        self.insert(
            path,
            Node {
                kind: Kind::File(contents.into()),
                mode,
                owner: 0,
            },
        );
    }

    /// A symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        let kind = Kind::Symlink(target.to_owned());
        self.insert(
            path,
            Node {
                kind,
                mode: 0o777,
                owner: 0,
            },
        );
    }

    /// What is at `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path.trim_matches('/'))
    }

    /// All paths in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Writes the tree as a tar; every entry's time is `epoch`.
    pub fn write_tar(&self, writer: impl io::Write, epoch: u64) -> io::Result<()> {
        let mut builder = Builder::new(writer);
        for (path, node) in &self.nodes {
            let mut header = Header::new_gnu();
            header.set_mode(node.mode);
            header.set_uid(node.owner);
            header.set_gid(node.owner);
            header.set_mtime(epoch);
            header.set_size(0);
            match &node.kind {
                Kind::Directory => {
                    header.set_entry_type(EntryType::Directory);
                    builder.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Kind::File(contents) => {
                    header.set_entry_type(EntryType::Regular);
                    header.set_size(contents.len() as u64);
                    builder.append_data(&mut header, path, &contents[..])?;
                }
                Kind::Symlink(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    builder.append_link(&mut header, path, target)?;
                }
            }
        }
        builder.into_inner()?.flush()
    }
}

/// The path that a Debian file has in a root with merged `/usr`: packages of
/// Debian 12 still ship some files under `/lib`, `/bin` and their like.
#[must_use]
pub fn merged(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    let top = path.split('/').next().unwrap_or_default();
    if matches!(top, "bin" | "sbin" | "lib" | "lib64") {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// Where a symbolic link at `path` leads, as a path of the merged tree.
#[must_use]
pub fn link_target(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = if target.starts_with('/') {
        Vec::new()
    } else {
        let mut parts: Vec<&str> = path.split('/').collect();
        parts.pop();
        parts
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    merged(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_children_and_by_themselves() {
        let mut tree = Tree::default();
        tree.file("/usr/bin/b", 0o755, *b"b");
        tree.file("/usr/bin/a", 0o755, *b"a");
        tree.directory("run/coracle", 0o755, 107);
        let paths: Vec<_> = tree.iter().map(|(path, _)| path).collect();
        assert_eq!(
            paths,
            [
                "run",
                "run/coracle",
                "usr",
                "usr/bin",
                "usr/bin/a",
                "usr/bin/b"
            ]
        );
    }

    #[test]
    fn the_tar_does_not_depend_on_the_order_of_insertion() {
        let mut first = Tree::default();
        first.file("a", 0o644, *b"1");
        first.symlink("z", "a");
        let mut second = Tree::default();
        second.symlink("z", "a");
        second.file("a", 0o644, *b"1");
        let (mut one, mut two) = (Vec::new(), Vec::new());
        first.write_tar(&mut one, 7).unwrap();
        second.write_tar(&mut two, 7).unwrap();
        assert_eq!(one, two);
    }

    #[test]
    fn links_lead_into_the_merged_tree() {
        for (path, target, wanted) in [
            (
                "usr/lib/x/liba.so.1",
                "liba.so.1.2",
                "usr/lib/x/liba.so.1.2",
            ),
            ("usr/lib64/ld.so", "/lib/x/ld.so", "usr/lib/x/ld.so"),
            (
                "usr/share/qemu/bios.bin",
                "../seabios/bios.bin",
                "usr/share/seabios/bios.bin",
            ),
        ] {
            assert_eq!(link_target(path, target), wanted);
        }
    }
}
