//! Loop devices: which are on a file, attaching, detaching, taking over a new
//! size. Through losetup, which copes with others who take devices at the same
//! time.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{CsiError, io};

/// The group `disk` of Debian, Ubuntu, Fedora and RHEL.
const DISK_GID: u32 = 6;

/// Below the time that a kubelet gives a call.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// A loop device on a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loop {
    pub(crate) device: PathBuf,
    pub(crate) read_only: bool,
}

/// Runs a program to its end and returns what it printed.
pub(crate) fn program(command: &mut Command) -> Result<String, CsiError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let ended = command.output();
    let ended = ended.map_err(io("run", Path::new(&name)))?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        return Err(CsiError::Program {
            program: format!("{name} ({})", ended.status),
            said,
        });
    }
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// The devices on a file; none when there is no such file.
pub(crate) fn on(file: &Path) -> Result<Vec<Loop>, CsiError> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let list = [
        "--noheadings",
        "--raw",
        "--output",
        "NAME,RO",
        "--associated",
    ];
    let list = program(Command::new("losetup").args(list).arg(file))?;
    Ok(parse(&list))
}

fn parse(list: &str) -> Vec<Loop> {
    let lines = list.lines().filter_map(|line| line.split_once(' '));
    lines
        .map(|(device, read_only)| Loop {
            device: PathBuf::from(device),
            read_only: read_only.trim() == "1",
        })
        .collect()
}

/// A device on the file: the one that is there, or a new one, with the owner
/// and mode that udev gives to disks.
pub(crate) fn attach(file: &Path, read_only: bool) -> Result<PathBuf, CsiError> {
    let there = on(file)?.into_iter();
    if let Some(found) = there.into_iter().find(|found| found.read_only == read_only) {
        return Ok(found.device);
    }
    let mut losetup = Command::new("losetup");
    losetup.args(["--find", "--show"]);
    if read_only {
        losetup.arg("--read-only");
    }
    let device = PathBuf::from(program(losetup.arg(file))?.trim());
    chown(&device, Some(0), Some(DISK_GID)).map_err(io("change the group of", &device))?;
    let mode = fs::Permissions::from_mode(0o660);
    fs::set_permissions(&device, mode).map_err(io("change the mode of", &device))?;
    Ok(device)
}

/// Frees every device on the file. One that somebody looks at just now goes
/// when he lets go of it, and is waited for.
///
/// # Errors
/// When one stays: the caller asks again.
pub(crate) fn detach(id: &str, file: &Path) -> Result<(), CsiError> {
    let start = Instant::now();
    for found in on(file)? {
        program(Command::new("losetup").arg("--detach").arg(&found.device))?;
    }
    loop {
        let left = on(file)?;
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > RELEASE_LIMIT {
            return Err(CsiError::InUse {
                id: id.to_owned(),
                devices: left.into_iter().map(|found| found.device).collect(),
            });
        }
        sleep(Duration::from_millis(20));
    }
}

/// Lets every device on the file have the file's size.
pub(crate) fn refresh(file: &Path) -> Result<(), CsiError> {
    for found in on(file)? {
        program(
            Command::new("losetup")
                .arg("--set-capacity")
                .arg(&found.device),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losetups_list_is_read() {
        let found = parse("/dev/loop3 0\n/dev/loop12 1\n");
        let expected = [("/dev/loop3", false), ("/dev/loop12", true)];
        let expected = expected.map(|(device, read_only)| Loop {
            device: device.into(),
            read_only,
        });
        assert_eq!(found, expected);
        assert_eq!(parse(""), []);
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let error = program(Command::new("losetup").arg("--no-such-option"));
        let text = error.expect_err("there is no such option").to_string();
        assert!(text.contains("no-such-option"), "{text}");
    }
}
