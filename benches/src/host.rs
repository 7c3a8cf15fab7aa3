//! The machine that was measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// Names and values that a reader of the figures needs, and the load.
pub(crate) fn describe(qemu: &Path) -> anyhow::Result<(Vec<(String, String)>, f64)> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cpus = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let version = Command::new(qemu).arg("--version").output();
    let version = version.with_context(|| format!("running {}", qemu.display()))?;
    let version = String::from_utf8_lossy(&version.stdout);
    let host = vec![
        (
            "cpu".to_owned(),
            format!("{cpus} × {}", model.map_or("?", |(_, name)| name.trim())),
        ),
        ("kernel".to_owned(), release.trim().to_owned()),
        (
            "qemu".to_owned(),
            version.lines().next().unwrap_or_default().to_owned(),
        ),
    ];
    Ok((host, load()?))
}

/// The load average of the last minute.
pub(crate) fn load() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().context("a load average")?;
    Ok(first.parse()?)
}
