//! The images that a VM's pod needs: there already, or imported from an
//! archive that `make images` wrote.
//!
//! The archive decides: when it holds another image than the runtime has under
//! that name, it is imported again, so that a rebuilt image is never hidden
//! by an old one. Nothing is pulled from a registry.

pub mod archive;

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::containerd::Containerd;
use crate::cri::CriError;
use crate::process::{self, ProcessError};
use archive::ArchiveError;

/// Images of this project carry the version of the program that uses them.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why an image is not there.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Neither the runtime nor a directory has it.
    #[error(
        "image not there: {reference} is neither in containerd nor is there an archive of it ({}): \
         run `make images`, or name an archive with {option}",
        tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NotThere {
        /// The image.
        reference: String,
        /// The option that names an archive for it.
        option: &'static str,
        /// Where an archive was looked for.
        tried: Vec<PathBuf>,
    },
    /// The archive is no good.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The import failed.
    #[error("{} cannot be imported", archive.display())]
    Import {
        /// The archive.
        archive: PathBuf,
        /// What ctr said.
        source: ProcessError,
    },
    /// The runtime does not say.
    #[error("image {reference} cannot be looked up")]
    Lookup {
        /// The image.
        reference: String,
        /// What the runtime said.
        source: CriError,
    },
}

/// An image and where an archive of it may be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub reference: String,
    /// File name of its archive in the directories below.
    pub file: &'static str,
    /// The archive the user named.
    pub given: Option<PathBuf>,
    /// The option to name it with.
    pub option: &'static str,
    /// Directories that may hold it.
    pub directories: Vec<PathBuf>,
}

/// What had to be done for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Had {
    /// It was there.
    Already,
    /// It was imported.
    Imported,
}

/// The reference of one of this project's images.
#[must_use]
pub fn reference(name: &str) -> String {
    format!("{}/{name}:{VERSION}", coracle_api::names::GROUP)
}

impl Wanted {
    fn archive(&self) -> Option<PathBuf> {
        self.given.clone().or_else(|| {
            self.directories
                .iter()
                .map(|dir| dir.join(self.file))
                .find(|file| file.exists())
        })
    }
}

/// Sees to it that the runtime has the image.
///
/// # Cancellation
/// Ends the import; the runtime drops the part that was there.
pub async fn ensure(containerd: &Containerd, wanted: &Wanted) -> Result<Had, ImageError> {
    let reference = &wanted.reference;
    let there = lookup(containerd, reference).await?;
    let Some(archive) = wanted.archive() else {
        return there
            .map(|_| Had::Already)
            .ok_or_else(|| ImageError::NotThere {
                reference: reference.clone(),
                option: wanted.option,
                tried: wanted
                    .directories
                    .iter()
                    .map(|dir| dir.join(wanted.file))
                    .collect(),
            });
    };
    let id = archive::image_id(&archive, reference)?;
    if there.as_deref() == Some(id.as_str()) {
        return Ok(Had::Already);
    }
    process::output(
        ctr(&containerd.socket)
            .args(["images", "import"])
            .arg(&archive),
    )
    .await
    .map_err(|source| ImageError::Import { archive, source })?;
    wait_listed(containerd, reference, &id).await?;
    Ok(Had::Imported)
}

/// CRI learns of an import from an event, a moment after the import is done.
async fn wait_listed(containerd: &Containerd, reference: &str, id: &str) -> Result<(), ImageError> {
    let listed = async {
        loop {
            if lookup(containerd, reference).await?.as_deref() == Some(id) {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    // An event that was lost costs nothing: the image is used by its name.
    tokio::time::timeout(std::time::Duration::from_secs(5), listed)
        .await
        .unwrap_or(Ok(()))
}

async fn lookup(containerd: &Containerd, reference: &str) -> Result<Option<String>, ImageError> {
    let lookup = |source| ImageError::Lookup {
        reference: reference.to_owned(),
        source,
    };
    containerd.cri.image_id(reference).await.map_err(lookup)
}

/// containerd's own client, on our socket and in CRI's namespace.
pub(crate) fn ctr(socket: &Path) -> Command {
    let program = process::find_program("ctr", std::env::var_os("PATH"));
    let mut command = Command::new(program.unwrap_or_else(|| PathBuf::from("ctr")));
    command
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io"]);
    command
}
