//! Loop devices to measure on.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

/// A loop device on a file of its own. Gone again when dropped, with the file.
#[derive(Debug)]
pub(crate) struct Loop {
    pub path: String,
    back: PathBuf,
}

impl Loop {
    /// A device of this size in a directory; its file has all its blocks, so
    /// that no file system looks for room while something is measured.
    pub(crate) fn full(dir: &Path, name: &str, bytes: u64) -> anyhow::Result<Self> {
        let device = Self::sparse(dir, name, bytes)?;
        let mut file = File::options().write(true).open(&device.back)?;
        let block = vec![0x5a; 1 << 20];
        for _ in 0..bytes.div_ceil(1 << 20) {
            file.write_all(&block)?;
        }
        file.sync_all()?;
        Ok(device)
    }

    /// The same without the blocks.
    pub(crate) fn sparse(dir: &Path, name: &str, bytes: u64) -> anyhow::Result<Self> {
        let back = dir.join(name);
        File::create(&back)?.set_len(bytes)?;
        Self::on(back)
    }

    /// A device on a file that is there.
    pub(crate) fn on(back: PathBuf) -> anyhow::Result<Self> {
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&back)
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "no loop device: {text}");
        let path = String::from_utf8(output.stdout)?.trim().to_owned();
        Ok(Self { path, back })
    }

    /// Makes the device larger, as a storage driver does.
    pub(crate) fn grow(&self, bytes: u64) -> anyhow::Result<()> {
        File::options()
            .write(true)
            .open(&self.back)?
            .set_len(bytes)?;
        let grown = Command::new("losetup")
            .args(["--set-capacity", &self.path])
            .status()?;
        ensure!(grown.success(), "{} does not grow", self.path);
        Ok(())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = Command::new("losetup")
            .args(["--detach", &self.path])
            .status();
        if !detached.is_ok_and(|status| status.success()) {
            let _ = writeln!(std::io::stderr(), "{} was not detached", self.path);
        }
        let _ = fs::remove_file(&self.back);
    }
}
