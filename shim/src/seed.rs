//! The cloud-init seed: a FAT volume labelled `CIDATA` with the files that
//! cloud-init's data source `NoCloud` looks for.
//!
//! The image is a function of its contents: no clock, no random number goes
//! into it. It is built in memory and bounded, because it lives in the pod's
//! memory afterwards. See <https://docs.cloud-init.io>, data source `NoCloud`,
//! §Source 1: drive with labeled filesystem.

use std::fs::OpenOptions;
use std::io::{self, Cursor, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use fatfs::{Date, DateTime, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};

/// The most that user-data or network-config may have, in bytes: what a
/// Kubernetes secret can hold.
pub(crate) const DATA_MAX: u64 = 1 << 20;
/// Space for the boot sector, two tables and the root directory (512 entries
/// of 32 bytes), which no file can use. FAT12 tables for the largest seed have
/// 12 sectors.
const OVERHEAD: usize = 64 << 10;
/// Images come in steps of this size, so that their length tells little.
const STEP: usize = 32 << 10;
/// The volume's serial number. FAT asks for one; nothing compares it.
const VOLUME_ID: u32 = 0x0c0a_c1e0;

/// What a seed says.
#[derive(Clone, Copy, Debug)]
pub struct Seed<'a> {
    /// Identity of the instance: the guest does its first-boot work again when
    /// this changes.
    pub instance_id: &'a str,
    /// The guest's host name.
    pub local_hostname: &'a str,
    /// The file `user-data`.
    pub user_data: &'a [u8],
    /// The file `network-config`.
    pub network_config: Option<&'a [u8]>,
}

/// Why a seed was not made.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// More data than a seed may hold.
    #[error("{file} has more than {DATA_MAX} bytes, the most that a seed may hold")]
    TooLarge {
        /// The file in the seed.
        file: &'static str,
    },
    /// The file system cannot be made; it is in memory, so this is a bound
    /// that was reckoned wrong.
    #[error("the FAT volume for {bytes} bytes cannot be filled")]
    Format {
        /// Size of the volume.
        bytes: usize,
        /// What the file system says.
        source: io::Error,
    },
    /// The image cannot be stored.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The image's path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Seed<'_> {
    /// Writes the image to `path`, for this user's eyes only: user-data often
    /// holds passwords. What was there is replaced.
    pub fn write(&self, path: &Path) -> Result<(), SeedError> {
        let image = self.image()?;
        let store = || {
            // Made anew and not overwritten: the mode of an older file stays
            // what it was, and a symbolic link is not followed.
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?
                .write_all(&image)
        };
        store().map_err(|source| SeedError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// The image's bytes.
    pub fn image(&self) -> Result<Vec<u8>, SeedError> {
        let meta_data = self.meta_data();
        let mut files = vec![
            ("meta-data", meta_data.as_bytes()),
            ("user-data", self.user_data),
        ];
        files.extend(self.network_config.map(|data| ("network-config", data)));
        if let Some((file, _)) = files.iter().find(|(_, data)| data.len() as u64 > DATA_MAX) {
            return Err(SeedError::TooLarge { file });
        }
        let contents: usize = files.iter().map(|(_, data)| data.len()).sum();
        let bytes = (contents + OVERHEAD).next_multiple_of(STEP);
        fill(vec![0; bytes], &files).map_err(|source| SeedError::Format { bytes, source })
    }

    /// Both values are quoted as JSON, which YAML reads as well, so that no
    /// name is taken for a number or for structure.
    fn meta_data(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        format!(
            "instance-id: {}\nlocal-hostname: {}\n",
            quoted(self.instance_id),
            quoted(self.local_hostname)
        )
    }
}

fn fill(image: Vec<u8>, files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut image = Cursor::new(image);
    let format = FormatVolumeOptions::new()
        .volume_id(VOLUME_ID)
        .volume_label(*b"CIDATA     ");
    fatfs::format_volume(&mut image, format)?;
    let volume = FileSystem::new(&mut image, FsOptions::new().time_provider(&NoClock))?;
    for (name, data) in files {
        let mut file = volume.root_dir().create_file(name)?;
        file.write_all(data)?;
        file.flush()?;
    }
    volume.unmount()?;
    Ok(image.into_inner())
}

/// The first moment that FAT knows.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn get_current_date(&self) -> Date {
        Date {
            year: 1980,
            month: 1,
            day: 1,
        }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime {
            date: self.get_current_date(),
            time: Time {
                hour: 0,
                min: 0,
                sec: 0,
                millis: 0,
            },
        }
    }
}

#[cfg(test)]
mod tests;
