//! Mounts: of a device node or a directory at another place, of a file system.
//! What is mounted is the kernel's to say.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount, umount};

use crate::access::FILE_SYSTEM;
use crate::error::{CsiError, io};
use crate::loops::program;

const NOTHING: Option<&str> = None;

/// Whether something is mounted at the path.
pub(crate) fn is_mounted(path: &Path) -> Result<bool, CsiError> {
    let list = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(list).map_err(io("read", list))?;
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    Ok(mount_points(&text).any(|point| point == path))
}

/// The mount points of a mountinfo: the fifth word of each line.
fn mount_points(text: &str) -> impl Iterator<Item = PathBuf> {
    let words = text.lines().filter_map(|line| line.split(' ').nth(4));
    words.map(|word| PathBuf::from(word.replace("\\040", " ").replace("\\134", "\\")))
}

/// Shows a device node at `target`, a file that is made for it.
pub(crate) fn bind_device(device: &Path, target: &Path) -> Result<(), CsiError> {
    let number = fs::metadata(device).map_err(io("look at", device))?.rdev();
    if let Ok(there) = fs::metadata(target)
        && there.file_type().is_block_device()
    {
        if there.rdev() == number {
            return Ok(());
        }
        return Err(CsiError::Exists {
            name: target.display().to_string(),
            difference: "another device is there".to_owned(),
        });
    }
    make_parent(target)?;
    File::create(target).map_err(io("create", target))?;
    mount(Some(device), target, NOTHING, MsFlags::MS_BIND, NOTHING)
        .map_err(|errno| io("mount the device at", target)(errno.into()))
}

/// Shows a directory at `target`, a directory that is made for it.
pub(crate) fn bind_directory(from: &Path, target: &Path, read_only: bool) -> Result<(), CsiError> {
    fs::create_dir_all(target).map_err(io("create", target))?;
    if is_mounted(target)? {
        return Ok(());
    }
    let failed = |errno: nix::Error| io("mount the volume at", target)(errno.into());
    mount(Some(from), target, NOTHING, MsFlags::MS_BIND, NOTHING).map_err(failed)?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(NOTHING, target, NOTHING, flags, NOTHING).map_err(failed)?;
    }
    Ok(())
}

/// Mounts the file system of a device at `target`, and makes one if the device
/// is empty.
pub(crate) fn mount_device(device: &Path, target: &Path, flags: &[String]) -> Result<(), CsiError> {
    fs::create_dir_all(target).map_err(io("create", target))?;
    if is_mounted(target)? {
        return Ok(());
    }
    // blkid says nothing, and fails, where nothing is recognized.
    let known = Command::new("blkid").args(["--probe"]).arg(device).output();
    if known
        .map_err(io("run", Path::new("blkid")))?
        .stdout
        .is_empty()
    {
        let quiet = ["-q", "-F", "-m", "0"];
        program(
            Command::new(format!("mkfs.{FILE_SYSTEM}"))
                .args(quiet)
                .arg(device),
        )?;
    }
    let mut mount = Command::new("mount");
    mount.args(["-t", FILE_SYSTEM]);
    if !flags.is_empty() {
        mount.arg("-o").arg(flags.join(","));
    }
    program(mount.arg(device).arg(target))?;
    Ok(())
}

/// Unmounts whatever is at the path, and leaves the path.
pub(crate) fn unmount(path: &Path) -> Result<(), CsiError> {
    while is_mounted(path)? {
        umount(path).map_err(|errno| io("unmount", path)(errno.into()))?;
    }
    Ok(())
}

/// Unmounts whatever is at the path, and removes the path.
pub(crate) fn remove(path: &Path) -> Result<(), CsiError> {
    unmount(path)?;
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.map_err(io("remove", path))
}

fn make_parent(path: &Path) -> Result<(), CsiError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(io("create", parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_spaces() {
        let text = "36 35 98:0 /mnt1 /a\\040b rw,noatime master:1 - ext3 /dev/root rw\n\
                    37 35 0:5 /loop7 /target rw - devtmpfs dev rw\n";
        let points: Vec<_> = mount_points(text).collect();
        assert_eq!(points, [Path::new("/a b"), Path::new("/target")]);
    }

    #[test]
    fn the_root_is_mounted_and_a_new_directory_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(is_mounted(Path::new("/")).expect("readable"));
        assert!(!is_mounted(dir.path()).expect("readable"));
        remove(&dir.path().join("nothing")).expect("nothing to remove");
    }
}
