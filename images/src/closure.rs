//! From a recipe to a root file system in which every program and library
//! finds what it needs.
//!
//! A library is looked for in the packages already read, then in those that
//! the package of the file which needs it depends on directly: Debian's
//! packages depend on all that they link. So only few packages are fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use crate::deb::{Contents, DebError};
use crate::elf::{self, Elf, ElfError};
use crate::packages::{Catalog, PackageError};
use crate::recipe::Recipe;
use crate::tree::{Kind, Tree, link_target, merged};

/// Where Debian's loader looks without a cache or an environment.
const LIBRARY_DIRS: [&str; 3] = ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"];

/// Why a root file system could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// Packages could not be had.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A package file could not be read.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A program or library is damaged.
    #[error("failed to read the ELF headers of /{path}")]
    Elf {
        /// Its path.
        path: String,
        /// The cause.
        source: ElfError,
    },
    /// A library is in no package that could hold it.
    #[error("/{needed_by} needs {library}, which is in none of the packages it depends on")]
    Unresolved {
        /// The library.
        library: String,
        /// What needs it.
        needed_by: String,
    },
}

/// Where files come from.
pub struct Source<'a> {
    /// What apt offers.
    pub catalog: &'a Catalog,
    /// Where package files are kept.
    pub cache: &'a Path,
    /// Told what takes time.
    pub progress: &'a mut dyn FnMut(&str),
}

/// A library or loader that something needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Want {
    name: String,
    path: String,
    package: String,
}

struct Closure<'s, 'a> {
    source: &'s mut Source<'a>,
    contents: Contents,
    tree: Tree,
    /// Packages of which something is in the tree.
    used: BTreeSet<String>,
    /// Libraries in the tree by name.
    wanted: Vec<Want>,
}

/// Puts the files of `recipe` together with all libraries that they and
/// `program`, which is added elsewhere, need.
pub fn close(
    recipe: &Recipe,
    program: (&str, &Elf),
    source: &mut Source<'_>,
) -> Result<Tree, ClosureError> {
    let packages = recipe.packages(program.1.interpreter.is_some());
    let mut closure = Closure {
        source,
        contents: Contents::default(),
        tree: Tree::default(),
        used: BTreeSet::new(),
        wanted: Vec::new(),
    };
    closure.load(&packages)?;
    for (_, path) in &recipe.files {
        closure.take(path)?;
    }
    let origin = packages.iter().next().map_or("", String::as_str);
    closure.want(program.0, origin, program.1);
    closure.resolve(&packages)?;
    closure.take_copyrights()?;
    closure.write_package_list()?;
    Ok(closure.tree)
}

impl Closure<'_, '_> {
    fn load(&mut self, packages: &BTreeSet<String>) -> Result<(), ClosureError> {
        self.source
            .catalog
            .fetch(packages, self.source.cache, self.source.progress)?;
        for package in packages {
            let file = &self.source.catalog.deb(package)?.file;
            self.contents.load(package, &self.source.cache.join(file))?;
        }
        Ok(())
    }

    /// Copies `path` and what it links to into the tree, and notes what the
    /// file at the end of the links needs.
    fn take(&mut self, path: &str) -> Result<(), ClosureError> {
        let mut programs = Vec::new();
        for (path, package, node) in self.contents.follow(path)? {
            if self.tree.get(&path).is_some() {
                continue;
            }
            if let Kind::File(bytes) = &node.kind
                && let Some(elf) = elf::parse(bytes).map_err(|source| ClosureError::Elf {
                    path: path.clone(),
                    source,
                })?
            {
                programs.push((path.clone(), package.to_owned(), elf));
            }
            self.used.insert(package.to_owned());
            self.tree.insert(&path, node.clone());
        }
        for (path, package, elf) in programs {
            self.want(&path, &package, &elf);
        }
        Ok(())
    }

    fn want(&mut self, path: &str, package: &str, elf: &Elf) {
        for name in elf.needed.iter().chain(&elf.interpreter) {
            self.wanted.push(Want {
                name: name.clone(),
                path: path.trim_start_matches('/').to_owned(),
                package: package.to_owned(),
            });
        }
    }

    /// Takes wanted libraries until none is left, reading more packages
    /// whenever the ones at hand do not hold one.
    fn resolve(&mut self, roots: &BTreeSet<String>) -> Result<(), ClosureError> {
        loop {
            let mut open = BTreeSet::new();
            while let Some(want) = self.wanted.pop() {
                if find(&want.name, |path| self.tree.get(path).is_some()).is_some() {
                    continue;
                }
                match find(&want.name, |path| self.contents.get(path).is_some()) {
                    Some(path) => self.take(&path)?,
                    None => drop(open.insert(want)),
                }
            }
            let Some(first) = open.first().cloned() else {
                return Ok(());
            };
            let more = self.candidates(&open, roots);
            if more.is_empty() {
                return Err(ClosureError::Unresolved {
                    library: first.name,
                    needed_by: first.path,
                });
            }
            self.load(&more)?;
            self.wanted.extend(open);
        }
    }

    fn candidates(&self, open: &BTreeSet<Want>, roots: &BTreeSet<String>) -> BTreeSet<String> {
        open.iter()
            .flat_map(|want| self.source.catalog.depends(&want.package))
            .chain(roots)
            .filter(|package| self.source.catalog.offers(package) && !self.contents.has(package))
            .cloned()
            .collect()
    }

    /// A package's documentation directory may be a link to that of another,
    /// built from the same source.
    fn take_copyrights(&mut self) -> Result<(), ClosureError> {
        let mut left: Vec<_> = self.used.iter().cloned().collect();
        while let Some(package) = left.pop() {
            let directory = format!("usr/share/doc/{package}");
            let linked = self
                .contents
                .get(&directory)
                .and_then(|(_, node)| match &node.kind {
                    Kind::Symlink(target) => Some((node.clone(), target.clone())),
                    Kind::Directory | Kind::File(_) => None,
                });
            let Some((node, other)) = linked else {
                self.take(&format!("{directory}/copyright"))?;
                continue;
            };
            self.tree.insert(&directory, node);
            if self.used.insert(other.clone()) {
                self.load(&BTreeSet::from([other.clone()]))?;
                left.push(other);
            }
        }
        Ok(())
    }

    fn write_package_list(&mut self) -> Result<(), ClosureError> {
        let mut list = String::new();
        for package in &self.used {
            let deb = self.source.catalog.deb(package)?;
            let _ = writeln!(list, "{}  {}", deb.sha256, deb.file);
        }
        if !list.is_empty() {
            self.tree.file(
                "usr/share/doc/coracle/debian-packages",
                0o644,
                list.into_bytes(),
            );
        }
        Ok(())
    }
}

/// The path at which a library or loader named `name` is, by `exists`.
fn find(name: &str, exists: impl Fn(&str) -> bool) -> Option<String> {
    if name.contains('/') {
        return Some(merged(name)).filter(|path| exists(path));
    }
    LIBRARY_DIRS
        .iter()
        .map(|dir| format!("{dir}/{name}"))
        .find(|path| exists(path))
}

/// What the programs and libraries of `tree` need and do not find in it:
/// library or loader, by path of what needs it.
#[must_use]
pub fn unsatisfied(tree: &Tree) -> BTreeMap<String, Vec<String>> {
    let is_file = |path: &str| {
        let mut at = merged(path);
        // More links than this in a row are a circle.
        for _ in 0..8 {
            match tree.get(&at).map(|node| &node.kind) {
                Some(Kind::File(_)) => return true,
                Some(Kind::Symlink(target)) => at = link_target(&at, target),
                Some(Kind::Directory) | None => return false,
            }
        }
        false
    };
    tree.iter()
        .filter_map(|(path, node)| {
            let Kind::File(bytes) = &node.kind else {
                return None;
            };
            let elf = elf::parse(bytes).ok()??;
            let missing: Vec<_> = elf
                .needed
                .into_iter()
                .chain(elf.interpreter)
                .filter(|name| find(name, is_file).is_none())
                .collect();
            (!missing.is_empty()).then(|| (path.to_owned(), missing))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_alone_lacks_its_libraries() {
        let me = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let mut tree = Tree::default();
        tree.file("usr/bin/me", 0o755, me);
        let missing = unsatisfied(&tree);
        assert!(
            missing["usr/bin/me"].contains(&"libc.so.6".to_owned()),
            "{missing:?}"
        );
        assert!(missing["usr/bin/me"].contains(&"/lib64/ld-linux-x86-64.so.2".to_owned()));
    }

    #[test]
    fn a_dangling_link_satisfies_nobody() {
        let me = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let mut tree = Tree::default();
        tree.file("usr/bin/me", 0o755, me);
        tree.symlink("usr/lib/libc.so.6", "libc-2.so");
        assert!(unsatisfied(&tree)["usr/bin/me"].contains(&"libc.so.6".to_owned()));
        tree.file("usr/lib/libc-2.so", 0o755, *b"");
        assert!(!unsatisfied(&tree)["usr/bin/me"].contains(&"libc.so.6".to_owned()));
    }

    #[test]
    fn a_library_that_no_package_holds_is_named_with_its_user() {
        let elf = Elf {
            interpreter: None,
            needed: vec!["libnone.so.1".to_owned()],
        };
        let mut progress = |_: &str| {};
        let catalog = Catalog::default();
        let mut source = Source {
            catalog: &catalog,
            cache: Path::new("/nonexistent"),
            progress: &mut progress,
        };
        let error = close(&Recipe::default(), ("/usr/bin/me", &elf), &mut source).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/usr/bin/me needs libnone.so.1, which is in none of the packages it depends on",
        );
    }
}
