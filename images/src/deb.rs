//! What is inside package files: their entries, under merged-`/usr` paths.
//!
//! `dpkg-deb` unpacks to a pipe; nothing is written to disk and no maintainer
//! script runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use tar::EntryType;

use crate::tree::{Kind, Node, link_target, merged};

/// Why a package file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// `dpkg-deb` could not be started or its output not read.
    #[error("failed to unpack {}", path.display())]
    Read {
        /// The package file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// `dpkg-deb` failed.
    #[error("dpkg-deb could not unpack {} ({status})", path.display())]
    Unpack {
        /// The package file.
        path: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// A path that a recipe or a link names is in no package that was read.
    #[error("no package that was read holds /{path}")]
    Missing {
        /// The path.
        path: String,
    },
}

/// The files of the packages read so far.
#[derive(Debug, Default)]
pub struct Contents {
    loaded: BTreeSet<String>,
    entries: BTreeMap<String, (String, Node)>,
}

impl Contents {
    /// Reads the package file at `path` as `package`'s.
    pub fn load(&mut self, package: &str, path: &Path) -> Result<(), DebError> {
        if !self.loaded.insert(package.to_owned()) {
            return Ok(());
        }
        let failed = |source| DebError::Read {
            path: path.to_owned(),
            source,
        };
        let mut child = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut stdout = child
            .stdout
            .take()
            .ok_or_else(|| failed(io::Error::other("no pipe")))?;
        let read = self.read_tar(package, &mut stdout);
        // Whatever padding follows the archive's end must be read, or
        // dpkg-deb dies of a broken pipe.
        let drained = io::copy(&mut stdout, &mut io::sink());
        let status = child.wait().map_err(failed)?;
        if !status.success() {
            return Err(DebError::Unpack {
                path: path.to_owned(),
                status,
            });
        }
        read.and_then(|()| drained.map(drop)).map_err(failed)
    }

    /// Whether `package` was read.
    #[must_use]
    pub fn has(&self, package: &str) -> bool {
        self.loaded.contains(package)
    }

    /// The entry at a merged path, and whose it is.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<(&str, &Node)> {
        self.entries
            .get(path)
            .map(|(package, node)| (package.as_str(), node))
    }

    /// The entries that make `path` usable: itself, and where it is a
    /// symbolic link, all that it leads to.
    pub fn follow(&self, path: &str) -> Result<Vec<(String, &str, &Node)>, DebError> {
        let mut found: Vec<(String, &str, &Node)> = Vec::new();
        let mut at = merged(path);
        loop {
            // A link that leads back to one already seen leads nowhere.
            let looped = found.iter().any(|(seen, _, _)| *seen == at);
            let Some((package, node)) = self.get(&at).filter(|_| !looped) else {
                return Err(DebError::Missing { path: at });
            };
            found.push((at.clone(), package, node));
            match &node.kind {
                Kind::Symlink(target) => at = link_target(&at, target),
                Kind::File(_) | Kind::Directory => return Ok(found),
            }
        }
    }

    fn read_tar(&mut self, package: &str, reader: &mut impl Read) -> io::Result<()> {
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = merged(&entry.path()?.to_string_lossy());
            let mode = entry.header().mode()? & 0o777;
            let kind = match entry.header().entry_type() {
                EntryType::Regular => {
                    let mut contents = Vec::new();
                    entry.read_to_end(&mut contents)?;
                    Kind::File(Rc::from(contents))
                }
                EntryType::Symlink => Kind::Symlink(link_name(&entry)?),
                EntryType::Link => match self.entries.get(&merged(&link_name(&entry)?)) {
                    Some((_, first)) => first.kind.clone(),
                    None => {
                        return Err(io::Error::other(format!("hard link {path} leads nowhere")));
                    }
                },
                // Directories are made as they are needed; images hold no
                // device nodes.
                _ => continue,
            };
            self.entries.insert(
                path,
                (
                    package.to_owned(),
                    Node {
                        kind,
                        mode,
                        owner: 0,
                    },
                ),
            );
        }
        Ok(())
    }
}

fn link_name(entry: &tar::Entry<'_, impl Read>) -> io::Result<String> {
    let target = entry
        .link_name()?
        .ok_or_else(|| io::Error::other("a link without a target"))?;
    Ok(target.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(of: &crate::tree::Tree) -> Contents {
        let mut bytes = Vec::new();
        of.write_tar(&mut bytes, 0).unwrap();
        let mut contents = Contents::default();
        contents.read_tar("p", &mut &bytes[..]).unwrap();
        contents
    }

    #[test]
    fn a_link_brings_what_it_leads_to() {
        let mut tree = crate::tree::Tree::default();
        tree.file("lib/libz.so.1.2", 0o644, *b"z");
        tree.symlink("lib/libz.so.1", "libz.so.1.2");
        let contents = contents(&tree);
        let paths: Vec<_> = contents
            .follow("/lib/libz.so.1")
            .unwrap()
            .into_iter()
            .map(|(path, _, _)| path)
            .collect();
        assert_eq!(paths, ["usr/lib/libz.so.1", "usr/lib/libz.so.1.2"]);
    }

    #[test]
    fn a_dangling_and_a_circular_link_are_errors() {
        let mut tree = crate::tree::Tree::default();
        tree.symlink("a", "b");
        tree.symlink("b", "a");
        tree.symlink("c", "nowhere");
        let contents = contents(&tree);
        assert!(matches!(
            contents.follow("a"),
            Err(DebError::Missing { .. })
        ));
        let error = contents.follow("c").unwrap_err();
        assert_eq!(error.to_string(), "no package that was read holds /nowhere");
    }

    #[test]
    fn a_file_that_is_no_package_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Contents::default().load("x", file.path()).unwrap_err();
        assert!(matches!(error, DebError::Unpack { .. }), "{error}");
    }
}
