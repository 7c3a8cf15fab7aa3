//! What runs on this machine, read from /proc.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// Its command line.
    pub arguments: Vec<String>,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let arguments = line
            .split(|byte| *byte == 0)
            .filter(|argument| !argument.is_empty());
        let arguments = arguments
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect();
        // A zombie is gone; only its parent has not looked yet.
        (state != "Z" && state != "X").then_some(Self {
            pid,
            parent,
            arguments,
        })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.arguments == self.arguments)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// The program's file name.
    #[must_use]
    pub fn program(&self) -> &str {
        let path = self.arguments.first().map_or("", String::as_str);
        path.rsplit('/').next().unwrap_or(path)
    }

    /// A line of `/proc/<pid>/status`.
    #[must_use]
    pub fn status(&self, key: &str) -> Option<String> {
        let text = fs::read_to_string(self.file("status")).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.trim().to_owned())
    }

    /// A file of the process as it sees it: `root/dev/kvm`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    /// Whether its command line or, where it has mounts of its own, one of
    /// these names something below `mark`.
    pub(crate) fn belongs_to(&self, mark: &str) -> bool {
        let own_mounts = || {
            let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
            namespace(&self.pid.to_string()) != namespace("self")
        };
        self.arguments
            .iter()
            .any(|argument| argument.contains(mark))
            || (own_mounts()
                && fs::read_to_string(self.file("mountinfo")).is_ok_and(|text| text.contains(mark)))
    }
}

/// All processes that fulfil a condition.
pub fn processes(condition: impl Fn(&Process) -> bool) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Process::read)
        .filter(condition)
        .collect()
}
