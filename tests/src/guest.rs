//! The boot-sector guests of `tests/guests`, assembled once per test run.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, anyhow, ensure};

use crate::programs;

/// The disk image of a guest, by the name of its source. It is shared: a test
/// works on a copy.
///
/// # Errors
/// When it cannot be assembled, or there is none of that name.
pub fn guest(name: &str) -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    let dir = built.as_ref().map_err(|error| anyhow!("{error}"))?;
    let image = dir.join(format!("{name}.img"));
    ensure!(image.exists(), "there is no guest {name} in tests/guests");
    Ok(image)
}

fn build() -> anyhow::Result<PathBuf> {
    let out = programs::scratch()?;
    let script = programs::repository().join("tests/guests/build.sh");
    let built = Command::new(&script)
        .arg(&out)
        .output()
        .with_context(|| format!("{} cannot be run", script.display()))?;
    ensure!(
        built.status.success(),
        "{} failed: {}",
        script.display(),
        String::from_utf8_lossy(&built.stderr)
    );
    Ok(out)
}
