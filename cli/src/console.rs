//! The guest's console on our terminal: `coracle-shim console`, run in the
//! container by containerd's client, so that parts of a line (`login: `) come
//! through as well.
//!
//! Never connects to a socket in the pod's volumes itself: a hostile guest
//! that got out of qemu could put anything there, and we are root.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::images::ctr;
use crate::terminal;

/// The shim's program in the VM image.
pub const SHIM: &str = "/usr/bin/coracle-shim";
/// The shim's control socket in the `run` volume.
const CONTROL_SOCKET: &str = "shim.sock";
/// How often the shim's socket is looked for.
const POLL: Duration = Duration::from_millis(10);
/// How much of what was shown is kept, to find the place in the log again.
const TAIL: usize = 1024;

/// Where a VM's console is.
#[derive(Clone, Debug)]
pub struct Place {
    /// containerd's socket.
    pub containerd: PathBuf,
    /// The container.
    pub container: String,
    /// The pod's `run` volume on the host.
    pub run_dir: PathBuf,
    /// Where containerd's client may put its FIFOs.
    pub fifo_dir: PathBuf,
}

/// What passes through a console, watched.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    tail: Vec<u8>,
    wanted: Option<Vec<u8>>,
    found: bool,
}

impl Shown {
    /// Watches for a text.
    #[must_use]
    pub fn watching(text: Option<&str>) -> Self {
        let wanted = text
            .map(|text| text.as_bytes().to_vec())
            .filter(|text| !text.is_empty());
        Self {
            wanted,
            ..Self::default()
        }
    }

    /// Notes what was shown; whether the text was seen for the first time.
    pub fn add(&mut self, bytes: &[u8]) -> bool {
        let keep = self.wanted.as_ref().map_or(0, Vec::len).max(TAIL);
        self.tail.extend_from_slice(bytes);
        let seen = !self.found
            && self.wanted.as_ref().is_some_and(|text| {
                self.tail
                    .windows(text.len())
                    .any(|window| window == &text[..])
            });
        self.found |= seen;
        let excess = self.tail.len().saturating_sub(keep);
        self.tail.drain(..excess);
        seen
    }

    /// The last bytes that were shown.
    #[must_use]
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Whether the cursor is in the middle of a line.
    #[must_use]
    pub fn is_mid_line(&self) -> bool {
        self.tail.last().is_some_and(|last| *last != b'\n')
    }
}

/// Returns when the shim listens.
pub async fn ready(place: &Place) {
    let socket = place.run_dir.join(CONTROL_SOCKET);
    // Only whether it is there: nothing is opened or followed.
    while std::fs::symlink_metadata(&socket).is_err() {
        tokio::time::sleep(POLL).await;
    }
}

/// A shim subcommand in the container, not yet started.
#[must_use]
pub fn shim(place: &Place, arguments: &[&str], terminal: bool) -> Command {
    let mut command = ctr(&place.containerd);
    command
        .args(["tasks", "exec", "--exec-id"])
        .arg(exec_id())
        .arg("--fifo-dir")
        .arg(&place.fifo_dir);
    if terminal {
        command.arg("--tty");
    }
    command.arg(&place.container).arg(SHIM).args(arguments);
    command
}

/// Names an exec: unique among those of one container.
fn exec_id() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(
        "coracle-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A console that was joined again begins with lines that were shown before;
/// this takes them out.
#[derive(Debug)]
pub struct Replay {
    tail: Vec<u8>,
    seen: Vec<u8>,
    done: bool,
}

/// More than the shim keeps of the console: what comes after is new.
const REPLAY_MAX: usize = 1 << 20;

impl Replay {
    /// What comes after the bytes that were shown last.
    #[must_use]
    pub fn after(tail: &[u8]) -> Self {
        Self {
            tail: tail.to_vec(),
            seen: Vec::new(),
            done: tail.is_empty(),
        }
    }

    /// What of these bytes was not shown before.
    pub fn new_bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.done {
            return bytes.to_vec();
        }
        self.seen.extend_from_slice(bytes);
        let place = self
            .seen
            .windows(self.tail.len())
            .rposition(|window| window == self.tail);
        let new = match place {
            Some(start) => self.seen.split_off(start + self.tail.len()),
            None if self.seen.len() > REPLAY_MAX => std::mem::take(&mut self.seen),
            None => return Vec::new(),
        };
        self.done = true;
        new
    }
}

/// What a console's client types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing.
    None,
    /// Our standard input, until it ends.
    Ours,
}

/// Copies the console to standard output until it ends. Each piece is passed
/// to `take` first, which returns what of it is to be shown.
///
/// # Cancellation
/// Ends the client; containerd ends the process in the container.
pub async fn follow(
    place: &Place,
    input: Input,
    mut take: impl FnMut(&[u8]) -> Vec<u8>,
) -> std::io::Result<()> {
    let (arguments, stdin): (&[&str], _) = match input {
        Input::None => (&["console", "--read-only"], Stdio::null()),
        Input::Ours => (&["console"], Stdio::inherit()),
    };
    let mut child: Child = shim(place, arguments, false)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut buffer = vec![0; 16 << 10];
    if let Some(mut output) = child.stdout.take() {
        loop {
            match output.read(&mut buffer).await? {
                0 => break,
                length => show(&take(&buffer[..length])),
            }
        }
    }
    child.wait().await?;
    Ok(())
}

/// Gives the user's terminal to the console until it ends or the user leaves
/// it. Whether the container could be reached.
pub async fn interact(place: &Place) -> std::io::Result<bool> {
    // containerd's client makes it raw, and may be killed before it is done.
    let _kept = terminal::keep()?;
    let status = shim(place, &["console"], true)
        .kill_on_drop(true)
        .status()
        .await?;
    Ok(status.success())
}

/// Writes to standard output. That nobody reads it is no reason to stop the
/// guest.
pub fn show(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// The end of a file that the container may write to, as text.
pub fn read_limited(path: &Path, limit: u64) -> std::io::Result<String> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let options = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags((nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK).bits())
        .open(path)?;
    let mut bytes = Vec::new();
    options.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_seen_once_even_in_pieces() {
        let mut shown = Shown::watching(Some("login: "));
        assert!(!shown.add(b"Debian\r\nhost lo"));
        assert!(shown.is_mid_line());
        assert!(shown.add(b"gin: "));
        assert!(!shown.add(b"\r\nhost login: "));
        assert!(!Shown::watching(None).add(b"login: "));
    }

    #[test]
    fn a_console_joined_again_repeats_nothing() {
        let mut replay = Replay::after(b"two\n");
        assert_eq!(replay.new_bytes(b"one\ntw"), b"");
        assert_eq!(replay.new_bytes(b"o\nthree\n"), b"three\n");
        assert_eq!(replay.new_bytes(b"two\n"), b"two\n");
        assert_eq!(Replay::after(b"").new_bytes(b"x"), b"x");
    }

    #[test]
    fn only_the_end_is_kept() {
        let mut shown = Shown::watching(None);
        shown.add(&[b'x'; 5000]);
        shown.add(b"end\n");
        assert_eq!(shown.tail().len(), TAIL);
        assert!(shown.tail().ends_with(b"end\n") && !shown.is_mid_line());
    }
}
