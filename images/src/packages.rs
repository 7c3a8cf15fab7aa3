//! Debian packages by name: what apt offers, fetched into a cache directory.
//!
//! Only apt's ordinary client is used, with the sources and the keys that the
//! machine already trusts. Nothing is ever read from the host's own root.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::hex;

/// Why packages could not be found or fetched.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The program is not there.
    #[error("failed to run {program}: these images are put together on Debian, with apt and dpkg")]
    Spawn {
        /// Its name.
        program: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// apt said no.
    #[error("{program} failed ({status}): {stderr}; `apt-get update` may be due")]
    Apt {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its last words.
        stderr: String,
    },
    /// A package of the recipe is unknown to apt.
    #[error("apt does not know package {package}; `apt-get update` may be due")]
    Unknown {
        /// The package.
        package: String,
    },
    /// A fetched file is not the one that the signed package list names.
    #[error("{} does not have the SHA-256 that apt's package list names", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
    },
    /// The cache directory failed.
    #[error("failed to use the package cache at {}", path.display())]
    Cache {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// One package file that apt can fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deb {
    /// File name: package, version, architecture.
    pub file: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 as the package list names it, in hex.
    pub sha256: String,
}

/// The packages reachable from a recipe's by `Depends`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    depends: BTreeMap<String, Vec<String>>,
    debs: BTreeMap<String, Deb>,
}

impl Catalog {
    /// Asks apt for `roots` and all that they depend on.
    pub fn ask_apt(roots: &BTreeSet<String>) -> Result<Self, PackageError> {
        if roots.is_empty() {
            return Ok(Self::default());
        }
        let listed = run(
            "apt-cache",
            &[
                "depends",
                "--recurse",
                "--no-recommends",
                "--no-suggests",
                "--no-conflicts",
                "--no-breaks",
                "--no-replaces",
                "--no-enhances",
            ],
            roots,
        )?;
        let depends = parse_depends(&listed);
        if let Some(package) = roots.iter().find(|root| !depends.contains_key(*root)) {
            return Err(PackageError::Unknown {
                package: package.clone(),
            });
        }
        let names = depends.keys().cloned().collect();
        let uris = run("apt-get", &["--print-uris", "download"], &names)?;
        Ok(Self {
            depends,
            debs: parse_uris(&uris),
        })
    }

    /// Whether no package is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.debs.is_empty()
    }

    /// What identifies the catalog: every package's file and hash.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.debs.values().fold(String::new(), |mut text, deb| {
            let _ = writeln!(text, "{} {}", deb.sha256, deb.file);
            text
        })
    }

    /// The packages that `package` depends on directly.
    #[must_use]
    pub fn depends(&self, package: &str) -> &[String] {
        self.depends.get(package).map_or(&[], Vec::as_slice)
    }

    /// Whether `package` can be fetched.
    #[must_use]
    pub fn offers(&self, package: &str) -> bool {
        self.debs.contains_key(package)
    }

    /// The file that apt offers for `package`.
    pub fn deb(&self, package: &str) -> Result<&Deb, PackageError> {
        self.debs.get(package).ok_or_else(|| PackageError::Unknown {
            package: package.to_owned(),
        })
    }

    /// Makes sure that the files of `packages` are in `cache`, each with the
    /// hash that the package list names.
    ///
    /// A file appears under its name only when it is whole, so an interrupted
    /// fetch costs nothing but time.
    pub fn fetch(
        &self,
        packages: &BTreeSet<String>,
        cache: &Path,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), PackageError> {
        let mut missing = BTreeSet::new();
        let mut bytes = 0;
        for package in packages {
            let deb = self.deb(package)?;
            if !is_whole(&cache.join(&deb.file), deb)? {
                missing.insert(package.clone());
                bytes += deb.size;
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        progress(&format!(
            "fetching {} Debian packages, {} KiB",
            missing.len(),
            bytes / 1024
        ));
        let in_cache = |source| PackageError::Cache {
            path: cache.to_owned(),
            source,
        };
        std::fs::create_dir_all(cache).map_err(in_cache)?;
        let partial = tempfile::tempdir_in(cache).map_err(in_cache)?;
        download(&missing, partial.path())?;
        for package in &missing {
            let deb = self.deb(package)?;
            let path = partial.path().join(&deb.file);
            if !is_whole(&path, deb)? {
                return Err(PackageError::Checksum { path });
            }
            std::fs::rename(&path, cache.join(&deb.file)).map_err(in_cache)?;
        }
        Ok(())
    }
}

fn is_whole(path: &Path, deb: &Deb) -> Result<bool, PackageError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(hex(&Sha256::digest(bytes)) == deb.sha256),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(PackageError::Cache {
            path: path.to_owned(),
            source,
        }),
    }
}

fn download(packages: &BTreeSet<String>, into: &Path) -> Result<(), PackageError> {
    // apt names each package as it arrives: that is the progress. Its sandbox
    // user cannot write here, and the hashes are checked anyway.
    let status = Command::new("apt-get")
        .args(["-o", "APT::Sandbox::User=root", "-q", "download"])
        .args(packages)
        .current_dir(into)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .map_err(|source| PackageError::Spawn {
            program: "apt-get",
            source,
        })?;
    if status.success() {
        return Ok(());
    }
    Err(PackageError::Apt {
        program: "apt-get download",
        status,
        stderr: "see above".to_owned(),
    })
}

fn run(
    program: &'static str,
    options: &[&str],
    names: &BTreeSet<String>,
) -> Result<String, PackageError> {
    let output = Command::new(program)
        .args(options)
        .args(names)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| PackageError::Spawn { program, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', "; ");
    Err(PackageError::Apt {
        program,
        status: output.status,
        stderr,
    })
}

/// Reads `apt-cache depends --recurse`: a package at the margin, what it
/// depends on indented below it. Virtual packages stand in angle brackets.
fn parse_depends(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut depends = BTreeMap::<String, Vec<String>>::new();
    let mut package = None;
    for line in text.lines() {
        if !line.starts_with([' ', '|']) {
            package = (!line.starts_with('<')).then(|| line.trim().to_owned());
            if let Some(package) = &package {
                depends.entry(package.clone()).or_default();
            }
            continue;
        }
        let Some((kind, name)) = line.trim_start_matches([' ', '|']).split_once(": ") else {
            continue;
        };
        if let Some(package) = &package
            && matches!(kind, "Depends" | "PreDepends")
            && !name.starts_with('<')
        {
            depends
                .entry(package.clone())
                .or_default()
                .push(name.to_owned());
        }
    }
    depends
}

/// Reads `apt-get --print-uris download`: `'uri' file size SHA256:hash`.
fn parse_uris(text: &str) -> BTreeMap<String, Deb> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let file = fields.next()?.to_owned();
            let size = fields.next()?.parse().ok()?;
            let sha256 = fields.next()?.strip_prefix("SHA256:")?.to_owned();
            let package = file.split('_').next()?.to_owned();
            Some((package, Deb { file, size, sha256 }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_with_alternatives_and_without_virtual_packages() {
        let text = "qemu\n  Depends: libc6\n |Depends: libsystemd0\n  Depends: libelogind0\n  \
                    PreDepends: dpkg\n  Depends: <debconf-2.0>\n    cdebconf\nlibc6\n<debconf-2.0>\n  Depends: x\n";
        let depends = parse_depends(text);
        assert_eq!(
            depends["qemu"],
            ["libc6", "libsystemd0", "libelogind0", "dpkg"]
        );
        assert_eq!(depends.keys().collect::<Vec<_>>(), ["libc6", "qemu"]);
    }

    #[test]
    fn uris_name_the_file_its_size_and_its_hash() {
        let debs = parse_uris(
            "'http://mirror/q/qemu_7.2%2bdfsg_amd64.deb' qemu_1%3a7.2+dfsg_amd64.deb 9281168 SHA256:fa17\n",
        );
        let wanted = Deb {
            file: "qemu_1%3a7.2+dfsg_amd64.deb".to_owned(),
            size: 9_281_168,
            sha256: "fa17".to_owned(),
        };
        assert_eq!(debs["qemu"], wanted);
    }

    #[test]
    fn a_package_that_was_not_offered_is_named() {
        let error = Catalog::default().deb("qemu").unwrap_err();
        assert!(error.to_string().contains("package qemu"), "{error}");
    }
}
