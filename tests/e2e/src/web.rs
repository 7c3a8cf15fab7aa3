//! A web server that pods of the first node reach: files of the test's, and how
//! often each was asked for.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, ensure};

/// The first node's address, which the tests have too.
pub(crate) const ADDRESS: &str = "10.89.0.1";

/// What the threads of a server share.
#[derive(Default)]
struct Shared {
    file: Vec<u8>,
    asked: Mutex<BTreeMap<String, usize>>,
    /// Nobody is answered while it is set.
    held: Mutex<bool>,
    released: Condvar,
}

/// A server; it serves until the tests end.
pub struct Web {
    port: u16,
    shared: Arc<Shared>,
}

impl Web {
    /// Serves one file under any name.
    ///
    /// # Errors
    /// When it gets no port.
    pub fn serve(file: Vec<u8>) -> anyhow::Result<Self> {
        Self::start(Shared {
            file,
            ..Shared::default()
        })
    }

    /// The same, and whoever asks waits until [`Self::release`].
    ///
    /// # Errors
    /// When it gets no port.
    pub fn hold(file: Vec<u8>) -> anyhow::Result<Self> {
        Self::start(Shared {
            file,
            held: Mutex::new(true),
            ..Shared::default()
        })
    }

    fn start(shared: Shared) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((ADDRESS, 0)).context("no port for a web server")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(shared);
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&served);
                // Whoever hangs up early asked all the same.
                thread::spawn(move || answer(stream, &shared));
            }
        });
        Ok(Self { port, shared })
    }

    /// Answers those who wait, and everybody from now on.
    pub fn release(&self) {
        let held = self.shared.held.lock();
        *held.unwrap_or_else(PoisonError::into_inner) = false;
        self.shared.released.notify_all();
    }

    /// Where a pod finds the file.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("http://{ADDRESS}:{}/{name}", self.port)
    }

    /// How often somebody asked for a name.
    #[must_use]
    pub fn asked(&self, name: &str) -> usize {
        let asked = self.shared.asked.lock();
        let asked = asked.unwrap_or_else(PoisonError::into_inner);
        asked.get(&format!("/{name}")).copied().unwrap_or_default()
    }
}

fn answer(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default();
    *shared
        .asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(path.to_owned())
        .or_default() += 1;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let gate = shared.held.lock().unwrap_or_else(PoisonError::into_inner);
    drop(shared.released.wait_while(gate, |held| *held));
    let file = &shared.file;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        file.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(file)
}

/// The checksum of a file, as a manifest has it.
///
/// # Errors
/// When `sha256sum` cannot tell.
pub fn checksum(file: &[u8]) -> anyhow::Result<String> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("sha256sum cannot be run")?;
    child.stdin.take().context("a pipe")?.write_all(file)?;
    let said = String::from_utf8(child.wait_with_output()?.stdout)?;
    let sum = said.split_whitespace().next().unwrap_or_default();
    ensure!(sum.len() == 64, "sha256sum says {said:?}");
    Ok(format!("sha256:{sum}"))
}
