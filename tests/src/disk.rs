//! Disks for guests: an image file behind a loop device that the test makes,
//! as a storage driver would make a block device.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// A loop device on an image of its own. Freed when it is dropped.
#[derive(Debug)]
pub struct LoopDisk {
    image: PathBuf,
    device: PathBuf,
}

impl LoopDisk {
    /// A device of `bytes` that begins with `content`, and is zeroes after.
    ///
    /// # Errors
    /// When the image or the device cannot be made.
    pub fn new(dir: &Path, name: &str, content: &[u8], bytes: u64) -> anyhow::Result<Self> {
        let image = dir.join(format!("{name}.img"));
        fs::write(&image, content).with_context(|| format!("writing {}", image.display()))?;
        File::options().write(true).open(&image)?.set_len(bytes)?;
        let device = losetup(&["--find", "--show"], &image)?;
        Ok(Self {
            image,
            device: PathBuf::from(device.trim()),
        })
    }

    /// The device node.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.device
    }

    /// The image under it.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Makes the device read-only, or writable again.
    ///
    /// # Errors
    /// When it does not let itself.
    pub fn set_read_only(&self, read_only: bool) -> anyhow::Result<()> {
        let how = if read_only { "--setro" } else { "--setrw" };
        let set = Command::new("blockdev")
            .arg(how)
            .arg(&self.device)
            .status()?;
        ensure!(
            set.success(),
            "blockdev {how} {} failed",
            self.device.display()
        );
        Ok(())
    }

    /// What is on the disk now, read from the device.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self) -> anyhow::Result<Vec<u8>> {
        let mut device = File::open(&self.device)?;
        // The page cache of the device may be older than what direct I/O
        // wrote below it.
        let _ = Command::new("blockdev")
            .arg("--flushbufs")
            .arg(&self.device)
            .status();
        device.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        device.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = self.set_read_only(false);
        let _ = losetup(&["--detach"], &self.device);
        let _ = fs::remove_file(&self.image);
    }
}

fn losetup(arguments: &[&str], path: &Path) -> anyhow::Result<String> {
    let run = Command::new("losetup").args(arguments).arg(path).output();
    let run = run.context("losetup cannot be run")?;
    let said = String::from_utf8_lossy(&run.stderr);
    ensure!(
        run.status.success(),
        "losetup {arguments:?} {}: {said}",
        path.display()
    );
    Ok(String::from_utf8_lossy(&run.stdout).into_owned())
}

/// What the guest `write-sector` leaves on its disk.
#[derive(Clone, Copy, Debug)]
pub struct Pattern;

impl Pattern {
    /// First byte that the guest writes.
    const START: usize = 16 * 512;
    /// How many it writes.
    const LENGTH: usize = 8 * 512;
    const WORD: &'static [u8] = b"CORACLE.";

    /// The disk as it is after the guest has written to `before`: every byte
    /// that it did not write is as it was.
    #[must_use]
    pub fn on(before: &[u8]) -> Vec<u8> {
        let mut after = before.to_vec();
        let written = &mut after[Self::START..Self::START + Self::LENGTH];
        for (byte, value) in written.iter_mut().zip(Self::WORD.iter().cycle()) {
            *byte = *value;
        }
        after
    }
}
