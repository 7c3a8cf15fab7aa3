//! Makes images and keeps them: one archive per set of inputs, and a link
//! with a fixed name to the newest.
//!
//! This module decides what goes in; `store` is the output directory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::closure::{self, ClosureError, Source};
use crate::elf::{self, Elf, ElfError};
use crate::hex;
use crate::oci::{Identity, Layer, Settings, write_archive};
use crate::packages::{Catalog, PackageError};
use crate::recipe::{Recipe, RecipeError, Which};
use crate::store::Store;
use crate::tree::Tree;

/// Part of every key. Raise it when this crate puts something else into an
/// image for the same inputs.
const REVISION: &str = "1";
/// The user of the VM container, by the number that distributions give qemu.
const QEMU_ID: u64 = 107;

/// What to build from what.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where archives go.
    pub out: PathBuf,
    /// Where package files are kept.
    pub debs: PathBuf,
    /// Tag of the images.
    pub version: String,
    /// Time of every file in them, in seconds since 1970.
    pub epoch: u64,
}

/// A finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Name, digest, size.
    pub identity: Identity,
    /// The link to its archive.
    pub archive: PathBuf,
    /// Whether it was there already.
    pub cached: bool,
}

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The program that goes into the image cannot be read.
    #[error("failed to read the program {}", path.display())]
    Program {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The program is not one.
    #[error("{} is not an x86-64 program", path.display())]
    NotAProgram {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it, when it is some other ELF file.
        source: Option<ElfError>,
    },
    /// A list of this crate is wrong.
    #[error("the file list of {image} is wrong")]
    Recipe {
        /// The image.
        image: &'static str,
        /// The cause.
        source: RecipeError,
    },
    /// apt did not answer.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The root file system could not be put together.
    #[error("failed to put {image} together")]
    Closure {
        /// The image.
        image: &'static str,
        /// The cause.
        source: ClosureError,
    },
    /// The output directory failed.
    #[error("failed to write {}", path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Makes `which` around the program at `program`, or finds it made already.
pub fn build(
    request: &Request,
    which: Which,
    program: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Built, BuildError> {
    let image = which.repository();
    let (bytes, elf) = read_program(program)?;
    let recipe =
        Recipe::parse(which.list()).map_err(|source| BuildError::Recipe { image, source })?;
    let catalog = Catalog::ask_apt(&recipe.packages(elf.interpreter.is_some()))?;

    let base_key = key(&[
        REVISION,
        which.list(),
        &request.epoch.to_string(),
        &catalog.fingerprint(),
        &elf.needed.join(" "),
    ]);
    let program_hash = hex(&Sha256::digest(&bytes));
    let image_key = key(&[&base_key, image, &request.version, &program_hash]);
    let store = Store {
        out: &request.out,
        stem: which.file_stem(),
    };
    if let Some(identity) = store.find(&image_key) {
        return Ok(Built {
            archive: store.publish(&image_key)?,
            identity,
            cached: true,
        });
    }

    let mut layers = Vec::new();
    if !catalog.is_empty() {
        let make = || {
            progress(&format!("putting {image} together"));
            let mut source = Source {
                catalog: &catalog,
                cache: &request.debs,
                progress,
            };
            closure::close(&recipe, (which.program(), &elf), &mut source)
                .map(|tree| furnish(tree, which))
                .map_err(|source| BuildError::Closure { image, source })
        };
        layers.push(store.layer(&base_key, request.epoch, make)?);
    }
    layers.push(
        program_layer(which, &bytes, request.epoch).map_err(|source| BuildError::Write {
            path: request.out.clone(),
            source,
        })?,
    );
    let name = format!("{image}:{}", request.version);
    let settings = settings(which, &request.version);
    let identity = store.write(&image_key, |file| {
        write_archive(&name, &settings, &layers, request.epoch, file)
    })?;
    Ok(Built {
        archive: store.publish(&image_key)?,
        identity,
        cached: false,
    })
}

fn read_program(path: &Path) -> Result<(Vec<u8>, Elf), BuildError> {
    let bytes = fs::read(path).map_err(|source| BuildError::Program {
        path: path.to_owned(),
        source,
    })?;
    match elf::parse(&bytes) {
        Ok(Some(elf)) => Ok((bytes, elf)),
        Ok(None) => Err(BuildError::NotAProgram {
            path: path.to_owned(),
            source: None,
        }),
        Err(source) => Err(BuildError::NotAProgram {
            path: path.to_owned(),
            source: Some(source),
        }),
    }
}

/// Adds to Debian's files what the image's own way of running needs.
fn furnish(mut tree: Tree, which: Which) -> Tree {
    for (link, target) in [
        ("bin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        tree.symlink(link, target);
    }
    tree.directory("usr/bin", 0o755, 0);
    tree.file(
        "usr/share/doc/coracle/LICENSE",
        0o644,
        &include_bytes!("../../LICENSE")[..],
    );
    if which == Which::Vm {
        tree.file(
            "etc/passwd",
            0o644,
            &b"root:x:0:0:root:/:/bin/false\nqemu:x:107:107:qemu:/:/bin/false\n"[..],
        );
        tree.file(
            "etc/group",
            0o644,
            &b"root:x:0:\ndisk:x:6:\nqemu:x:107:\n"[..],
        );
        for directory in [
            "dev/coracle",
            "etc/coracle",
            "proc",
            "sys",
            "var/lib/coracle/disks",
            "var/lib/coracle/ephemeral",
            "var/lib/coracle/images",
            "var/lib/coracle/cloud-init",
            "var/lib/coracle/kernel",
        ] {
            tree.directory(directory, 0o755, 0);
        }
        tree.directory("run/coracle", 0o700, QEMU_ID);
    }
    tree
}

/// The program's own layer, apart from Debian's files: a rebuilt program
/// then costs a node a few hundred KiB. Images of one program share it.
fn program_layer(which: Which, bytes: &[u8], epoch: u64) -> io::Result<Layer> {
    let mut tree = Tree::default();
    tree.file(which.program(), 0o755, bytes);
    Layer::pack(&tree, epoch, which.program())
}

fn settings(which: Which, version: &str) -> Settings {
    let labels = [
        ("org.opencontainers.image.title", which.repository()),
        ("org.opencontainers.image.description", which.description()),
        ("org.opencontainers.image.version", version),
        (
            "org.opencontainers.image.licenses",
            match which {
                // qemu's licence joins ours.
                Which::Vm => "Apache-2.0 AND GPL-2.0-or-later",
                Which::DevicePlugin | Which::Pause | Which::Controller => "Apache-2.0",
                // zstd's licence and that of the certificate authorities.
                Which::Importer => "Apache-2.0 AND BSD-3-Clause AND CDLA-Permissive-2.0",
            },
        ),
    ];
    Settings {
        user: which.user().to_owned(),
        entrypoint: which.entrypoint().into_iter().map(str::to_owned).collect(),
        labels: labels
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>(),
    }
}

fn key(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    hex(&hasher.finalize()[..12])
}
