//! Reads a stream up to a line.

use std::io::{BufRead, BufReader, Read};
use std::time::Instant;

use anyhow::bail;

/// Reads up to a line that holds `mark`; when it came. What was read before is
/// in the error when there is none.
pub(crate) fn wait_for<R: Read>(
    reader: &mut BufReader<R>,
    mark: &[&str],
) -> anyhow::Result<Instant> {
    let mut before = String::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            bail!("{mark:?} did not come; before it ended:\n{before}");
        }
        let line = String::from_utf8_lossy(&line);
        if mark.iter().all(|mark| line.contains(mark)) {
            return Ok(Instant::now());
        }
        before.push_str(&line);
    }
}

/// Reads a stream to its end in the background, so that its writer never has
/// to wait.
pub(crate) fn drain(mut reader: impl Read + Send + 'static) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
}
