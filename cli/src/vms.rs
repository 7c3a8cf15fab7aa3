//! The commands for VMs that are there: started with `--detach`, or by a
//! `coracle run` in another terminal.

mod list;
mod logs;
mod stop;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use coracle_api::names::{ANNOTATION_DESIRED, exit};
use coracle_api::report::{State, Status};
use coracle_api::types::DesiredState;

use crate::console::{self, Place};
use crate::containerd::{self, Settings};
use crate::cri::Cri;
use crate::failure::{Classify, Failure};
use crate::paths::Paths;
use crate::pod_volumes;
use crate::process;
use crate::progress::say;
use crate::record::{self, Found};
use crate::terminal;

/// The VMs of a state directory.
#[derive(Clone, Copy, Debug)]
pub struct Vms<'a> {
    /// The state directory.
    pub paths: &'a Paths,
    /// For a private containerd that must be started again.
    pub settings: &'a Settings,
}

/// A VM's pod has no container.
#[derive(Debug, thiserror::Error)]
#[error("VM {vm} is only being started")]
struct NotStarted {
    vm: String,
}

impl Vms<'_> {
    /// `coracle console`.
    pub async fn console(&self, name: &str) -> Result<u8, Failure> {
        let found = record::find(self.paths, name).config()?;
        let place = self.place(&found).await?;
        if terminal::is_interactive() {
            let reached = console::interact(&place).await.host()?;
            return Ok(if reached { exit::OK } else { exit::GUEST });
        }
        console::follow(&place, console::Input::Ours, <[u8]>::to_vec)
            .await
            .host()?;
        Ok(exit::OK)
    }

    /// `coracle state`.
    pub async fn state(&self, name: &str) -> Result<u8, Failure> {
        let found = record::find(self.paths, name).config()?;
        let state = self.state_of(&found).await.host()?;
        let json = serde_json::to_string_pretty(&state).host()?;
        console::show(format!("{json}\n").as_bytes());
        Ok(exit::OK)
    }

    /// `coracle pause` and `coracle resume`: the annotation changes, the shim
    /// sees the file change, as in a cluster.
    pub fn set_desired(&self, name: &str, desired: DesiredState) -> Result<u8, Failure> {
        let mut found = record::find(self.paths, name).config()?;
        let vm = found.record.vm.to_string();
        let places = found.record.places();
        let pod = found.record.pod.as_mut().ok_or(NotStarted { vm }).host()?;
        let text = format!("{desired:?}");
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert(ANNOTATION_DESIRED.to_owned(), text);
        pod_volumes::update(pod, &places).host()?;
        found.rewrite().host()?;
        say(&format!("{}: {desired:?} is wanted now", found.record.vm));
        Ok(exit::OK)
    }

    /// The shim's state; one of a VM that has ended is put together from what
    /// is left of it.
    async fn state_of(&self, found: &Found) -> anyhow::Result<State> {
        let stopped = |termination| State {
            oci_version: "1.0.2".to_owned(),
            id: found.record.vm.to_string(),
            status: Status::Stopped,
            pid: None,
            bundle: coracle_api::names::CONFIG_DIR.to_owned(),
            termination,
            disks: vec![],
        };
        let Some(container) = found.record.container.clone() else {
            return Ok(State {
                status: Status::Creating,
                ..stopped(None)
            });
        };
        let cri = self.cri(found).await?;
        if let Some(ended) = cri.exit(&container).await? {
            let end = crate::run::ending(&found.dir, &ended);
            return Ok(stopped(end.termination));
        }
        let mut command = console::shim(&self.place_of(found, container), &["state"], false);
        let text = process::output(command.stdin(Stdio::null())).await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The runtime that a VM is in. A private one that died is started again.
    async fn cri(&self, found: &Found) -> Result<Cri, anyhow::Error> {
        if let Some(socket) = &found.record.containerd {
            return Ok(containerd::existing(socket).await?.cri);
        }
        let _lock = record::lock(self.paths).await?;
        Ok(containerd::ensure(self.paths, self.settings).await?.cri)
    }

    async fn place(&self, found: &Found) -> Result<Place, Failure> {
        let not_started = NotStarted {
            vm: found.record.vm.to_string(),
        };
        let container = found.record.container.clone().ok_or(not_started).host()?;
        self.cri(found).await.host()?;
        Ok(self.place_of(found, container))
    }

    fn place_of(&self, found: &Found, container: String) -> Place {
        let socket = found.record.containerd.clone();
        Place {
            containerd: socket.unwrap_or_else(|| containerd::socket(self.paths)),
            container,
            run_dir: found.record.volume_dir.join("run"),
            fifo_dir: found.dir.join("fifo"),
        }
    }
}

/// The log of a VM's container.
fn log_file(dir: &Path) -> PathBuf {
    dir.join("logs")
        .join(coracle_api::names::CONTAINER)
        .join("0.log")
}
