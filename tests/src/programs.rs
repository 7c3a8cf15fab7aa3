//! Where the built programs are: beside the test executable, in the target
//! directory of the same profile.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, ensure};

/// One build at a time, or each would be told that the other holds the lock.
static BUILD: Mutex<()> = Mutex::new(());

/// The path of a program of the workspace, built when it is not there.
///
/// # Errors
/// When it cannot be built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let dir = profile_dir()?;
    let path = dir.join(name);
    let _one = BUILD
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if !path.exists() {
        // cargo gives up its lock on the target directory before it runs the
        // tests, so this does not wait for our own parent.
        let profile = match dir.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(other) => other,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--workspace",
                "--bin",
                name,
                "--profile",
                profile,
            ])
            .current_dir(repository())
            .status()
            .context("cargo cannot be run")?;
        ensure!(built.success(), "`cargo build --bin {name}` failed");
    }
    Ok(path)
}

/// `target/<profile>`, from the path of the running executable.
fn profile_dir() -> anyhow::Result<PathBuf> {
    let executable = std::env::current_exe().context("finding the running executable")?;
    let dir = executable
        .parent()
        .context("an executable has a directory")?;
    // Tests are in deps/, programs are not.
    Ok(if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    }
    .to_path_buf())
}

/// A directory for what is made from the checkout and kept: the assembled
/// guests.
pub(crate) fn scratch() -> anyhow::Result<PathBuf> {
    Ok(profile_dir()?.join("coracle-guests"))
}

/// The checkout.
pub(crate) fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}
