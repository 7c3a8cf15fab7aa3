//! Waiting for a state. The bound is for a test that would hang, not for one
//! that is slow.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::bail;

/// How long anything may take: a machine that compiles beside the tests is
/// slow, one that takes longer than this hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How often a state is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Waits until `look` finds something.
///
/// # Errors
/// When it does not within [`PATIENCE`], naming what was waited for.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if start.elapsed() > PATIENCE {
            bail!("{what}: not within {} s", PATIENCE.as_secs());
        }
        sleep(POLL);
    }
}
