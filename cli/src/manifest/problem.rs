//! What is wrong with a manifest, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

use coracle_yaml::Position;

/// One thing that is wrong, as compilers write it:
/// `vm.yaml:12:5: spec.disks[0]: unknown field "bootorder": did you mean "bootOrder"?`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, `<stdin>`, or several when it is in none of them.
    pub file: String,
    /// Where in the file; nothing for what is missing altogether.
    pub at: Option<Position>,
    /// The field, as `spec.disks[0].bus`; empty for a whole document.
    pub path: String,
    /// What is wrong, and how to mend it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Position { line, column }) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        // Rules that span fields name the field themselves.
        let named = self
            .message
            .strip_prefix(&self.path)
            .is_some_and(|rest| rest.starts_with([':', ' ']));
        if !self.path.is_empty() && !named {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Why manifests cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file cannot be read.
    #[error("manifest {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something is wrong in them; all of it is listed, a line each.
    #[error("{}", lines(problems))]
    Invalid {
        /// At least one.
        problems: Vec<Problem>,
    },
}

fn lines(problems: &[Problem]) -> String {
    if let [problem] = problems {
        return problem.to_string();
    }
    let first = format!("the manifests have {} problems:", problems.len());
    let lines = std::iter::once(first).chain(problems.iter().map(Problem::to_string));
    lines.collect::<Vec<_>>().join("\n")
}
