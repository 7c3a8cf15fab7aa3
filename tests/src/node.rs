//! A machine of the test's own: a state directory, an image store, reports,
//! and the check that nothing of it is left.

mod leftovers;

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::disk::LoopDisk;
use crate::manifest::Manifest;
use crate::procfs::{Process, processes};
use crate::run::{Finished, Run};
use crate::{guest, programs, skip};

/// In /run, where a state directory belongs: a path that is short enough for
/// the sockets under it.
const PARENT: &str = "/run";
/// Programs without which no pod can be started.
const NEEDED: [&str; 4] = ["containerd", "runc", "losetup", "as"];

/// A machine of the test's own. Whatever is left of it when it is dropped is
/// removed.
#[derive(Debug)]
pub struct Node {
    base: TempDir,
    /// Devices that the test made, which are no leftovers.
    disks: RefCell<Vec<PathBuf>>,
    /// How many reports were asked for.
    reports: Cell<u32>,
}

impl Node {
    /// A new one; `None`, after saying why, where this machine cannot run
    /// pods.
    ///
    /// # Errors
    /// When it could run them but something that the project makes is
    /// missing.
    pub fn new() -> anyhow::Result<Option<Self>> {
        if let Some(why) = cannot() {
            skip(&why);
            return Ok(None);
        }
        for image in ["vm", "pause"] {
            Self::image_archive(image)?;
        }
        let base = tempfile::Builder::new()
            .prefix("coracle-tests.")
            .tempdir_in(PARENT)?;
        fs::create_dir(base.path().join("reports"))?;
        Ok(Some(Self {
            base,
            disks: RefCell::default(),
            reports: Cell::default(),
        }))
    }

    /// The archive of an image that the project makes.
    ///
    /// # Errors
    /// When it is not there.
    pub fn image_archive(image: &str) -> anyhow::Result<PathBuf> {
        let archive = cache()?.join("images").join(format!("{image}.tar"));
        ensure!(
            archive.exists(),
            "{} is missing: run `make images` first",
            archive.display()
        );
        Ok(archive)
    }

    /// The directory that holds all of it, and files of the test.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.base.path()
    }

    /// The state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// A `coracle` command with this node's directories.
    ///
    /// # Errors
    /// When the program cannot be built.
    pub fn coracle(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(programs::program("coracle")?);
        command
            .args(arguments)
            .arg("--state-dir")
            .arg(self.state())
            .arg("--containerd-root")
            .arg(self.dir().join("root"));
        // The plugin is looked for beside the program; it must be there.
        programs::program("coracle-device-plugin")?;
        Ok(command)
    }

    /// Runs a `coracle` command to its end.
    ///
    /// # Errors
    /// When it cannot be run, or does not end.
    pub fn call(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        Run::start(&mut self.coracle(arguments)?)?.finish()
    }

    /// Writes a file of the test, and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<String> {
        let path = self.dir().join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// A loop device of 1 MiB with a guest on it.
    ///
    /// # Errors
    /// When there is no such guest, or no device.
    pub fn guest_disk(&self, name: &str) -> anyhow::Result<LoopDisk> {
        self.disk(name, &fs::read(guest(name)?)?, 1 << 20)
    }

    /// A loop device with this content, filled up with zeroes.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn disk(&self, name: &str, content: &[u8], bytes: u64) -> anyhow::Result<LoopDisk> {
        let name = format!("disk{}-{name}", self.disks.borrow().len());
        let disk = LoopDisk::new(self.dir(), &name, content, bytes)?;
        self.disks.borrow_mut().push(disk.path().to_path_buf());
        Ok(disk)
    }

    /// `coracle run` of a manifest, with `CLAIM=PATH` volumes, further
    /// arguments and a report.
    ///
    /// # Errors
    /// When the manifest cannot be written or the program not be built.
    pub fn run(
        &self,
        manifest: &Manifest,
        volumes: &[(&str, &Path)],
        arguments: &[&str],
    ) -> anyhow::Result<Command> {
        let file = self.file(&format!("{}.yaml", manifest.name()), manifest.text())?;
        let mut command = self.coracle(&["run", &file])?;
        for (claim, path) in volumes {
            command
                .arg("--volume")
                .arg(format!("{claim}={}", path.display()));
        }
        self.reports.set(self.reports.get() + 1);
        command.arg("--report").arg(self.report_file());
        command.args(arguments);
        Ok(command)
    }

    fn report_file(&self) -> PathBuf {
        self.dir()
            .join("reports")
            .join(format!("{}.json", self.reports.get()))
    }

    /// The report of the last run.
    ///
    /// # Errors
    /// When there is none.
    pub fn report(&self) -> anyhow::Result<Value> {
        let path = self.report_file();
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// The record of a VM that is there.
    ///
    /// # Errors
    /// When it is not.
    pub fn record(&self, vm: &str) -> anyhow::Result<Value> {
        let path = self
            .state()
            .join("pods")
            .join(format!("default_{vm}"))
            .join("record.json");
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// The processes of this node: containerd and its shims, pods, commands.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let mark = self.mark();
        processes(|process| process.belongs_to(&mark))
    }

    /// The shim of the only VM.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn shim(&self) -> anyhow::Result<Process> {
        // Others hold sandboxes (`pause --sandbox`) or show the console.
        self.only("coracle-shim", |process| {
            process.arguments.get(1).is_some_and(|a| a == "run")
        })
    }

    /// qemu of the only VM.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn qemu(&self) -> anyhow::Result<Process> {
        self.only("qemu-system-x86_64", |_| true)
    }

    /// The private containerd.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn containerd(&self) -> anyhow::Result<Process> {
        self.only("containerd", |_| true)
    }

    fn only(&self, program: &str, which: impl Fn(&Process) -> bool) -> anyhow::Result<Process> {
        let mut found = self.processes();
        found.retain(|process| process.program() == program && which(process));
        ensure!(
            found.len() == 1,
            "{} processes of {program}: {found:?}",
            found.len()
        );
        found.pop().context("there is one")
    }

    /// Fails when anything of the node is left: processes, mounts, loop
    /// devices, network, cgroups, records.
    ///
    /// # Errors
    /// Naming what is left.
    pub fn expect_clean(&self) -> anyhow::Result<()> {
        let left = leftovers::all(self);
        ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
        Ok(())
    }

    fn mark(&self) -> String {
        self.dir().display().to_string()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.state().exists() && leftovers::all(self).is_empty() {
            return;
        }
        // A test failed half-way. What `coracle clean` does not end is ended
        // by name of this node's directory, which nobody else has.
        let _ = self.call(&["clean"]);
        for process in self.processes() {
            process.signal(Signal::SIGKILL);
        }
        for mount in leftovers::mounts(&self.mark()).into_iter().rev() {
            let _ = Command::new("umount").arg("--lazy").arg(mount).status();
        }
    }
}

/// Why no pod can be started on this machine.
fn cannot() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("pods need root".into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there =
        |program: &&&str| std::env::split_paths(&path).any(|dir| dir.join(program).exists());
    if let Some(missing) = NEEDED.iter().find(|program| !there(program)) {
        return Some(format!("{missing} is not installed"));
    }
    (!Path::new("/dev/loop-control").exists()).then(|| "there are no loop devices".into())
}

/// Coracle's cache, by the XDG base directory specification.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let xdg = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute());
    let base = xdg.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    Ok(base
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("coracle"))
}
