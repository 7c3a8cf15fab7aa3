//! Device nodes of a test's own, in the node's `/dev`. They are those of
//! `/dev/null` and the like: what they do is no matter.

use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// Minor numbers of `/dev/null`, `/dev/zero` and `/dev/full`: to the plugin,
/// nodes of one number are one device.
const MINORS: [u64; 3] = [3, 5, 7];

/// Some device nodes; gone when it is dropped.
pub struct DeviceNodes(Vec<PathBuf>);

impl DeviceNodes {
    /// So many, with a name that is the test's own.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn named(name: &str, count: usize) -> anyhow::Result<Self> {
        let path = |which| PathBuf::from(format!("{}{which}", Self::prefix(name)));
        Self::at((0..count).map(path).collect())
    }

    /// At these paths.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn at(paths: Vec<PathBuf>) -> anyhow::Result<Self> {
        let nodes = Self(paths);
        for path in &nodes.0 {
            nodes.make(path)?;
        }
        Ok(nodes)
    }

    fn prefix(name: &str) -> String {
        format!("/dev/coracle-e2e-{}-{name}-", std::process::id())
    }

    /// What selects those of a name.
    #[must_use]
    pub fn glob(name: &str) -> String {
        format!("{}*", Self::prefix(name))
    }

    /// All of them.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.0
    }

    /// The one that a container was given, by its variable.
    ///
    /// # Errors
    /// When it was given another.
    pub fn find(&self, id: &str) -> anyhow::Result<&Path> {
        let mut paths = self.0.iter();
        let found = paths.find(|path| path.file_name().is_some_and(|name| name == id));
        let found = found.with_context(|| format!("{id:?} is none of {:?}", self.0));
        found.map(PathBuf::as_path)
    }

    /// Makes one that is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self, path: &Path) -> anyhow::Result<()> {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let index = self.0.iter().position(|other| other == path).unwrap_or(0);
        let rdev = makedev(1, MINORS[index % MINORS.len()]);
        mknod(path, SFlag::S_IFCHR, mode, rdev).context("makes a device node")
    }
}

impl Drop for DeviceNodes {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}
