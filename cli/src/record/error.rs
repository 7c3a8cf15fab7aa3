//! Why a record cannot be kept or found.

use std::io;
use std::path::PathBuf;

/// Why a record cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file or directory cannot be used.
    #[error("{} cannot be {action}", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was written by another version, or damaged.
    #[error("{} cannot be read: remove the VM with the version of coracle that started it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The VM runs already.
    #[error("VM {vm} runs already ({how}): stop it first with `coracle stop {vm}`")]
    Running {
        /// The VM.
        vm: String,
        /// Whose it is.
        how: &'static str,
    },
    /// There is no such VM.
    #[error("there is no VM {vm} here{}", known(known_vms))]
    Unknown {
        /// The VM.
        vm: String,
        /// Those that are.
        known_vms: Vec<String>,
    },
    /// More than one VM is called that.
    #[error("{} are called {name}: say which", vms.join(" and "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The VMs.
        vms: Vec<String>,
    },
}

fn known(vms: &[String]) -> String {
    match vms {
        [] => ": none was started with --detach, and none runs".to_owned(),
        vms => format!(": there is {}", vms.join(", ")),
    }
}
