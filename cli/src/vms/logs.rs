//! `coracle logs`.

use std::io::{Read, Write};
use std::time::Duration;

use coracle_api::names::exit;

use super::{Vms, log_file};
use crate::console;
use crate::cri_log::{self, Stream};
use crate::failure::{Classify, Failure};
use crate::record;

/// How often a log that is followed is looked at.
const POLL: Duration = Duration::from_millis(200);

impl Vms<'_> {
    /// `coracle logs`. Followed, it ends when the VM is removed.
    pub async fn logs(&self, name: &str, follow: bool) -> Result<u8, Failure> {
        let found = record::find(self.paths, name).config()?;
        let path = log_file(&found.dir);
        let mut log = std::fs::File::open(&path).host()?;
        let mut pending = Vec::new();
        loop {
            log.read_to_end(&mut pending).host()?;
            let complete = pending
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |end| end + 1);
            let lines: Vec<u8> = pending.drain(..complete).collect();
            print(&lines);
            if !follow || !path.exists() {
                return Ok(exit::OK);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

fn print(lines: &[u8]) {
    for line in lines.split(|byte| *byte == b'\n') {
        match cri_log::parse(line) {
            Some((Stream::Stdout, content)) => console::show(&content),
            Some((Stream::Stderr, content)) => {
                let _ = std::io::stderr().lock().write_all(&content);
            }
            None => {}
        }
    }
}
