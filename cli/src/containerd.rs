//! The containerd that plays the node's runtime: a private one, started on
//! demand and stopped when the last VM of its state directory is gone, or one
//! that somebody else runs.
//!
//! Containers outlive containerd (each has a shim process of its own), so a
//! private containerd that died is simply started again.
//! Never touches a containerd it did not start: it is found by the path of
//! its configuration file on its command line, which only ours has.

pub mod config;
mod processes;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::cni::{self, CniError, Masquerade, PodCidr};
use crate::cri::{Cri, CriError};
use crate::paths::Paths;
use crate::process::{self, ProcessError};
use config::{Config, Generation};
pub use processes::shims;
use processes::{clients, find, kubelet_of};

/// A cold containerd answers within a second; a busy machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often a starting containerd is asked whether it is ready.
const POLL: Duration = Duration::from_millis(20);
/// Names the state directory that uses a containerd root.
const ROOT_OWNER: &str = "coracle-state-dir";

/// Why there is no containerd.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// The program is not installed.
    #[error("{program} is not installed: install it (Debian: apt-get install {package})")]
    NotThere {
        /// The program.
        program: &'static str,
        /// Debian's package.
        package: &'static str,
    },
    /// It is not known which containerd this is.
    #[error("cannot tell containerd's version from `{output}`")]
    UnknownVersion {
        /// What it said.
        output: String,
    },
    /// Its root is in use for another state directory.
    #[error(
        "{} holds the images of the VMs under {}, which run: use --state-dir {} for this VM too, \
         or give it a store of its own with --containerd-root",
        root.display(), owner.display(), owner.display()
    )]
    RootInUse {
        /// The root.
        root: PathBuf,
        /// The other state directory.
        owner: PathBuf,
    },
    /// The pod network cannot be made.
    #[error("the pod network cannot be made")]
    Cni {
        /// What is missing.
        #[from]
        source: CniError,
    },
    /// A directory or file of ours cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program could not be run.
    #[error("containerd cannot be run")]
    Run {
        /// What happened.
        #[from]
        source: ProcessError,
    },
    /// It ended while it started.
    #[error("containerd ended at its start ({status}): {said}; its log is {}", log.display())]
    Ended {
        /// Its exit status.
        status: String,
        /// The last lines of its log.
        said: String,
        /// Its log.
        log: PathBuf,
    },
    /// It does not answer.
    #[error("containerd at {} does not answer", socket.display())]
    Silent {
        /// Its socket.
        socket: PathBuf,
        /// The last answer.
        source: CriError,
    },
    /// A kubelet uses it.
    #[error(
        "{} is the runtime of a kubelet (process {pid}), which removes every pod it does not \
         know: leave out --containerd, coracle then starts a containerd of its own",
        socket.display()
    )]
    Kubelet {
        /// The socket.
        socket: PathBuf,
        /// The kubelet.
        pid: i32,
    },
}

/// What a private containerd is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The image that holds pod sandboxes.
    pub pause_image: String,
    /// The subnet of the pods.
    pub pod_cidr: PodCidr,
}

/// A containerd that answers.
#[derive(Clone, Debug)]
pub struct Containerd {
    /// Its socket.
    pub socket: PathBuf,
    /// Its CRI.
    pub cri: Cri,
    /// Whether this call started it.
    pub started: bool,
}

/// The socket of a state directory's private containerd.
#[must_use]
pub fn socket(paths: &Paths) -> PathBuf {
    paths.containerd().join("containerd.sock")
}

fn config_file(paths: &Paths) -> PathBuf {
    paths.containerd().join("config.toml")
}

/// The log of a state directory's private containerd.
#[must_use]
pub fn log_file(paths: &Paths) -> PathBuf {
    paths.containerd().join("containerd.log")
}

/// The private containerd, started when it does not run. The caller holds the
/// state directory's lock.
///
/// # Cancellation
/// A containerd that was being started goes on starting; [`stop`] ends it.
pub async fn ensure(paths: &Paths, settings: &Settings) -> Result<Containerd, ContainerdError> {
    let socket = socket(paths);
    let running = find(&config_file(paths));
    let child = if running.is_empty() {
        Some(start(paths, settings).await?)
    } else {
        None
    };
    let started = child.is_some();
    let cri = wait_ready(&socket, child, &log_file(paths)).await?;
    Ok(Containerd {
        socket,
        cri,
        started,
    })
}

/// A containerd that somebody else runs.
pub async fn existing(socket: &Path) -> Result<Containerd, ContainerdError> {
    if let Some(kubelet) = kubelet_of(socket) {
        return Err(ContainerdError::Kubelet {
            socket: socket.to_path_buf(),
            pid: kubelet.pid,
        });
    }
    let cri = Cri::connect(socket);
    cri.version()
        .await
        .map_err(|source| ContainerdError::Silent {
            socket: socket.to_path_buf(),
            source,
        })?;
    Ok(Containerd {
        socket: socket.to_path_buf(),
        cri,
        started: false,
    })
}

/// Whether the private containerd of a state directory runs.
#[must_use]
pub fn is_running(paths: &Paths) -> bool {
    !find(&config_file(paths)).is_empty()
}

/// Ends the private containerd and the shims it may have left. The caller
/// holds the state directory's lock and knows that no VM is left.
pub async fn stop(paths: &Paths) {
    for process in find(&config_file(paths)) {
        process.end(process::TERM_GRACE).await;
    }
    // Clients that a killed command left, such as an import: without their
    // containerd they would wait for a while.
    for client in clients(&socket(paths)) {
        client.end(process::TERM_GRACE).await;
    }
    for shim in shims(&socket(paths)) {
        tracing::warn!(pid = shim.pid, "ending a shim that outlived its container");
        // A shim ignores SIGTERM while it has a container.
        shim.signal(Signal::SIGKILL);
        shim.gone().await;
    }
    let _ = std::fs::remove_file(socket(paths));
    let _ = std::fs::remove_file(paths.containerd_root().join(ROOT_OWNER));
}

async fn start(
    paths: &Paths,
    settings: &Settings,
) -> Result<tokio::process::Child, ContainerdError> {
    let path = std::env::var_os("PATH");
    let program = |program, package| {
        process::find_program(program, path.clone())
            .ok_or(ContainerdError::NotThere { program, package })
    };
    let containerd = program("containerd", "containerd")?;
    program("ctr", "containerd")?;
    program("runc", "runc")?;
    let version = process::output(Command::new(&containerd).arg("--version")).await?;
    let generation = Generation::from_version_output(&version).ok_or_else(|| {
        ContainerdError::UnknownVersion {
            output: version.trim().to_owned(),
        }
    })?;
    let iptables = process::find_program("iptables", path.clone());
    let masquerade = if iptables.is_some() {
        Masquerade::Yes
    } else {
        Masquerade::No
    };
    claim_root(paths)?;
    let dir = paths.containerd();
    let cni_conf = dir.join("cni");
    make_dir(&cni_conf)?;
    write(
        &cni_conf.join("10-coracle.conflist"),
        &cni::conflist(settings.pod_cidr, masquerade),
    )?;
    let config = Config {
        generation,
        root: paths.containerd_root().to_path_buf(),
        state: dir.join("state"),
        socket: socket(paths),
        cni_conf,
        cni_bin: cni::plugin_dir()?,
        pause_image: settings.pause_image.clone(),
        apparmor: has_apparmor(),
    };
    write(&config_file(paths), &config.render())?;
    spawn(&containerd, paths)
}

fn spawn(program: &Path, paths: &Paths) -> Result<tokio::process::Child, ContainerdError> {
    let path = log_file(paths);
    let log = |source| ContainerdError::Write {
        path: path.clone(),
        source,
    };
    let out = std::fs::File::create(&path).map_err(log)?;
    let err = out.try_clone().map_err(log)?;
    let child = Command::new(program)
        .arg("--config")
        .arg(config_file(paths))
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        // Ctrl-C in the terminal is for us alone: the guest is to be stopped
        // gracefully, and that needs containerd.
        .process_group(0)
        .spawn()
        .map_err(|source| ProcessError::Start {
            program: "containerd".to_owned(),
            source,
        })?;
    Ok(child)
}

/// A containerd root has one user at a time: containerd would wait for the
/// other without a word.
fn claim_root(paths: &Paths) -> Result<(), ContainerdError> {
    let root = paths.containerd_root();
    make_dir(root)?;
    let file = root.join(ROOT_OWNER);
    if let Ok(owner) = std::fs::read_to_string(&file) {
        let owner = Path::new(owner.trim());
        let others = Paths::new(owner, Path::new("/"), None);
        if owner != paths.state() && is_running(&others) {
            return Err(ContainerdError::RootInUse {
                root: root.to_path_buf(),
                owner: owner.to_path_buf(),
            });
        }
    }
    write(&file, &format!("{}\n", paths.state().display()))
}

fn make_dir(path: &Path) -> Result<(), ContainerdError> {
    std::fs::create_dir_all(path).map_err(|source| ContainerdError::Write {
        path: path.to_path_buf(),
        source,
    })
}

fn write(path: &Path, text: &str) -> Result<(), ContainerdError> {
    std::fs::write(path, text).map_err(|source| ContainerdError::Write {
        path: path.to_path_buf(),
        source,
    })
}

fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'))
        && process::find_program("apparmor_parser", None).is_some()
}

async fn wait_ready(
    socket: &Path,
    mut child: Option<tokio::process::Child>,
    log: &Path,
) -> Result<Cri, ContainerdError> {
    let cri = Cri::connect(socket);
    let deadline = tokio::time::Instant::now() + READY_WITHIN;
    loop {
        let Err(source) = cri.version().await else {
            return Ok(cri);
        };
        if let Some(Ok(Some(status))) = child.as_mut().map(tokio::process::Child::try_wait) {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            return Err(ContainerdError::Ended {
                status: status.to_string(),
                said: process::last_lines(&said, 2),
                log: log.to_path_buf(),
            });
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(ContainerdError::Silent {
                socket: socket.to_path_buf(),
                source,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}
