//! kubectl, as a user calls it.

use std::process::Stdio;

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// kubectl with the cluster's configuration.
#[derive(Clone, Copy, Debug)]
pub struct Kubectl;

/// A call that has ended.
#[derive(Clone, Debug)]
pub struct Called {
    /// Whether kubectl was content.
    pub ok: bool,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Called {
    /// Its output.
    ///
    /// # Errors
    /// When it failed; with what it said.
    pub fn output(self) -> anyhow::Result<String> {
        ensure!(self.ok, "kubectl: {}", self.stderr.trim());
        Ok(self.stdout)
    }
}

impl Kubectl {
    /// Calls it to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn call(self, arguments: &[&str]) -> anyhow::Result<Called> {
        self.call_with(arguments, "").await
    }

    /// Calls it with something on its standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn call_with(self, arguments: &[&str], input: &str) -> anyhow::Result<Called> {
        let mut child = Command::new("kubectl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("kubectl cannot be run")?;
        let mut stdin = child.stdin.take().context("standard input is a pipe")?;
        // One that fails early does not read it all.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let ended = child.wait_with_output().await?;
        Ok(Called {
            ok: ended.status.success(),
            stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
        })
    }

    /// Calls it and returns its output.
    ///
    /// # Errors
    /// When it fails.
    pub async fn run(self, arguments: &[&str]) -> anyhow::Result<String> {
        let called = self.call(arguments).await?;
        called.output().with_context(|| arguments.join(" "))
    }

    /// Calls the shim in a VM's pod and returns its output.
    ///
    /// # Errors
    /// When it fails.
    pub async fn shim(self, namespace: &str, pod: &str, words: &[&str]) -> anyhow::Result<String> {
        let exec = ["exec", "-n", namespace, pod, "--", "coracle-shim"];
        self.run(&[&exec, words].concat()).await
    }

    /// `kubectl apply`.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn apply(self, object: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string(object)?;
        self.call_with(&["apply", "-f", "-"], &text)
            .await?
            .output()?;
        Ok(())
    }
}
