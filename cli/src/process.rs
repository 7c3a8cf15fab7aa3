//! Programs of the host: run one to its end, find one by its command line,
//! end one that is not a child of ours.
//!
//! Never signals a process that was not recognized by its command line or by
//! its start time: process ids are used again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// How often a process that is not our child is looked at while it ends.
const POLL: Duration = Duration::from_millis(10);
/// How long a process may take to end after SIGTERM.
pub(crate) const TERM_GRACE: Duration = Duration::from_secs(10);

/// A program could not be run, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("{program} cannot be started")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("{program} {arguments} failed with {status}: {stderr}")]
    Failed {
        /// The program.
        program: String,
        /// What it was asked to do.
        arguments: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The last it said.
        stderr: String,
    },
}

/// Runs a program to its end and returns what it printed. Dropping the future
/// kills the program.
pub(crate) async fn output(command: &mut Command) -> Result<String, ProcessError> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    // Boxed, as the future holds buffers for two pipes.
    let output = Box::pin(command.stdin(Stdio::null()).kill_on_drop(true).output())
        .await
        .map_err(|source| ProcessError::Start {
            program: program.clone(),
            source,
        })?;
    if !output.status.success() {
        let arguments: Vec<_> = command
            .as_std()
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect();
        return Err(ProcessError::Failed {
            program,
            arguments: arguments.join(" "),
            status: output.status,
            stderr: last_lines(&String::from_utf8_lossy(&output.stderr), 3),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last lines of a text, on one line.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..].join("; ")
}

/// Finds a program the way a shell does, then beside the places that a root
/// shell's PATH often lacks.
pub(crate) fn find_program(name: &str, path: Option<OsString>) -> Option<PathBuf> {
    let path = path.unwrap_or_default();
    let standard = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    std::env::split_paths(&path)
        .chain(standard.iter().map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A process, recognizable after its id was given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this id now, if it is there and no zombie.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything.
        let rest = stat.rsplit_once(')')?.1;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        // starttime is field 22 of proc(5), the state is field 3.
        let start_time = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, start_time })
    }

    /// Whether it still runs. A zombie does not.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, when it is still this process.
    pub(crate) fn signal(self, signal: Signal) {
        if self.is_alive() {
            // It may end between the check and the call; then nobody is left
            // to be told.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Ends it: SIGTERM, and SIGKILL when it takes longer than `grace`.
    pub(crate) async fn end(self, grace: Duration) {
        self.signal(Signal::SIGTERM);
        if tokio::time::timeout(grace, self.gone()).await.is_err() {
            self.signal(Signal::SIGKILL);
            // SIGKILL cannot be refused; only a process in uninterruptible
            // sleep outlives it, and waiting for that one helps nobody.
            let _ = tokio::time::timeout(grace, self.gone()).await;
        }
    }

    /// Returns when it has ended.
    pub(crate) async fn gone(self) {
        while self.is_alive() {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// How many processes have a command line that fulfils a condition.
#[must_use]
pub fn count(condition: impl Fn(&[String]) -> bool) -> usize {
    find(condition).len()
}

/// The processes whose command line fulfils a condition.
pub(crate) fn find(condition: impl Fn(&[String]) -> bool) -> Vec<ProcessId> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments: Vec<String> = bytes
                .split(|byte| *byte == 0)
                .map(|argument| String::from_utf8_lossy(argument).into_owned())
                .collect();
            condition(&arguments)
        })
        .filter_map(ProcessId::of)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_found_by_its_command_line_and_ended() {
        let mut child = Command::new("sleep")
            .arg("987654")
            .kill_on_drop(true)
            .spawn()
            .expect("spawns");
        let pid = i32::try_from(child.id().expect("runs")).expect("fits");
        let mut found = Vec::new();
        // Between fork and exec the child still has our command line.
        while !found.iter().any(|process: &ProcessId| process.pid == pid) {
            found = find(|args| args.iter().any(|arg| arg == "987654"));
            tokio::time::sleep(POLL).await;
        }
        let process = ProcessId::of(pid).expect("alive");
        assert!(process.is_alive());
        assert!(
            !ProcessId {
                start_time: process.start_time + 1,
                ..process
            }
            .is_alive()
        );
        process.end(TERM_GRACE).await;
        assert!(!process.is_alive());
        child.wait().await.expect("reaped");
    }

    #[tokio::test]
    async fn what_a_failed_program_said_is_in_the_error() {
        let error =
            output(Command::new("sh").args(["-c", "echo first; echo it broke >&2; exit 3"]))
                .await
                .expect_err("fails");
        let text = error.to_string();
        assert!(
            text.contains("it broke") && text.contains("exit status: 3"),
            "{text}"
        );
    }

    #[test]
    fn programs_are_found_outside_of_path_too() {
        assert!(find_program("sh", None).is_some());
        assert!(find_program("no-such-program-anywhere", None).is_none());
    }
}
