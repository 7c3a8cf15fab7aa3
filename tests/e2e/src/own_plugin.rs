//! A device plugin of a test's own, beside the node's: with resources that no
//! other test has, and in the test's hands.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::node::Node;

/// The plugin, as a program of the first node; killed when it is dropped.
pub struct OwnPlugin {
    program: Child,
    log: PathBuf,
}

impl OwnPlugin {
    /// Starts one for resources of the configuration file, with further
    /// arguments. `name` is the test's own.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(
        node: &Node,
        name: &str,
        resources: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let dir = node.dir().join(format!("own-{name}"));
        std::fs::create_dir_all(&dir)?;
        let config = dir.join("devices.yaml");
        std::fs::write(&config, format!("resources:\n{resources}"))?;
        let log = node.dir().join(format!("logs/own-{name}.log"));
        let socket = "/var/lib/kubelet/pod-resources/kubelet.sock";
        let program = Command::new("coracle-device-plugin")
            .args(["run", "--kvm-count=0", "--tun-count=0"])
            .args(["--vhost-net-count=0", "--vhost-vsock-count=0"])
            .args(["--pod-resources", socket])
            .arg("--node-dir")
            .arg(Path::new("/run/coracle-own").join(name))
            .arg("--config")
            .arg(config)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("coracle-device-plugin cannot be run")?;
        Ok(Self { program, log })
    }

    /// What it has logged.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// Lets it end in order, and waits for that.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.program.id())?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        self.program.wait()?;
        Ok(())
    }
}

impl Drop for OwnPlugin {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
