//! The kubelet's device manager for one pod: device plugins register on the
//! state directory's `kubelet.sock`, and what the pod requests is allocated
//! from what they list.
//!
//! The kubelet is there from admission until the container has started, as
//! long as a plugin's answer is needed; the VM keeps its devices without it.
//! A missing or unhealthy device is an error, never a VM without it.

mod error;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use coracle_api::names::{GROUP, RESOURCE_KVM};
use coracle_kubelet::{Device, Kubelet, KubeletError, Options};
use coracle_kvm_probe::Level;
use coracle_proto::deviceplugin::ContainerAllocateResponse;
use nix::fcntl::Flock;
use tokio::process::{Child, Command};

use crate::paths::Paths;
use crate::process::{self, ProcessError, ProcessId};
use crate::record::{self, Held};

pub use error::DevicesError;

/// Our plugin's program.
const PLUGIN: &str = "coracle-device-plugin";
/// The kernel probe takes up to a few seconds on a slow machine.
const HEALTHY_WITHIN: Duration = Duration::from_secs(20);
/// How often the lock of the plugin directory is tried.
const POLL: Duration = Duration::from_millis(20);

/// How devices are had.
#[derive(Clone, Debug)]
pub struct Request {
    /// Resource and how many of it.
    pub wanted: BTreeMap<String, usize>,
    /// Devices that other VMs hold.
    pub held: Vec<Held>,
    /// Our plugin's program, when the user names it.
    pub program: Option<PathBuf>,
    /// How far our plugin's KVM probe must get.
    pub level: Level,
    /// Where our plugin's log goes.
    pub log: PathBuf,
}

/// Devices of one resource that the pod got.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The resource.
    pub resource: String,
    /// The devices.
    pub ids: Vec<String>,
    /// What the plugin wants the container to get.
    pub answer: ContainerAllocateResponse,
}

/// The kubelet and the plugin, as long as the pod is being made. Dropping it
/// kills the plugin; [`Manager::finish`] ends both in order.
#[derive(Debug)]
pub struct Manager {
    kubelet: Kubelet,
    plugin: Option<Child>,
    log: PathBuf,
    _lock: Flock<std::fs::File>,
}

impl Manager {
    /// Serves the kubelet's socket and starts our plugin where one of its
    /// resources is requested.
    pub async fn start(paths: &Paths, request: &Request) -> Result<Self, DevicesError> {
        let dir = paths.device_plugins();
        let lock = loop {
            if let Some(lock) = record::try_lock(&dir.with_extension("lock"))? {
                break lock;
            }
            tokio::time::sleep(POLL).await;
        };
        let kubelet = Kubelet::serve(&dir, Options::default())
            .await
            .map_err(|source| DevicesError::Serve { source })?;
        for held in &request.held {
            kubelet.adopt(&held.resource, &held.ids);
        }
        let ours = request.wanted.keys().find(|resource| is_ours(resource));
        let plugin = match ours {
            Some(resource) => Some(spawn(paths, request, resource)?),
            None => None,
        };
        Ok(Self {
            kubelet,
            plugin,
            log: request.log.clone(),
            _lock: lock,
        })
    }

    /// The plugin's process, to be written down.
    #[must_use]
    pub fn plugin(&self) -> Option<ProcessId> {
        let pid = self.plugin.as_ref()?.id()?;
        ProcessId::of(i32::try_from(pid).ok()?)
    }

    /// Waits for the devices and allocates them.
    ///
    /// # Cancellation
    /// What was allocated is held by this manager only.
    pub async fn allocate(&mut self, request: &Request) -> Result<Vec<Grant>, DevicesError> {
        let mut grants = Vec::new();
        for (resource, count) in &request.wanted {
            self.wait_healthy(resource, *count, request).await?;
            let allocated = self
                .kubelet
                .allocate(resource, *count)
                .await
                .map_err(|source| DevicesError::Kubelet {
                    resource: resource.clone(),
                    source,
                })?;
            grants.push(Grant {
                resource: resource.clone(),
                ids: allocated.ids,
                answer: allocated.response,
            });
        }
        Ok(grants)
    }

    async fn wait_healthy(
        &mut self,
        resource: &str,
        count: usize,
        request: &Request,
    ) -> Result<(), DevicesError> {
        let held: Vec<&String> = request
            .held
            .iter()
            .filter(|held| held.resource == resource)
            .flat_map(|h| &h.ids)
            .collect();
        let free = |devices: &[Device]| {
            devices
                .iter()
                .filter(|device| device.healthy && !held.contains(&&device.id))
                .count()
        };
        let enough =
            self.kubelet
                .wait_for(resource, |devices| free(devices) >= count, HEALTHY_WITHIN);
        let plugin = self.plugin.as_mut();
        let listed = self
            .kubelet
            .wait_for(resource, |devices| !devices.is_empty(), HEALTHY_WITHIN);
        let hopeless = async {
            // A plugin that lists KVM as unhealthy may still be probing: our
            // own probe tells at once whether waiting has any point.
            match listed.await {
                Ok(devices) if resource == RESOURCE_KVM && free(&devices) < count => {
                    if let Err(reason) = probe(request.level).await {
                        return DevicesError::NoKvm { reason };
                    }
                    std::future::pending().await
                }
                _ => std::future::pending().await,
            }
        };
        let ended = async {
            match plugin {
                Some(child) if is_ours(resource) => match child.wait().await {
                    Ok(status) => status.to_string(),
                    Err(error) => error.to_string(),
                },
                _ => std::future::pending().await,
            }
        };
        let waited = tokio::select! {
            enough = enough => enough,
            error = hopeless => return Err(error),
            status = ended => {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                return Err(DevicesError::PluginEnded { status, said: process::last_lines(&said, 2) });
            }
        };
        match waited {
            Ok(_) => Ok(()),
            Err(source) => Err(self
                .explain(resource, count, source, free, request.level)
                .await),
        }
    }

    async fn explain(
        &self,
        resource: &str,
        wanted: usize,
        source: KubeletError,
        free: impl Fn(&[Device]) -> usize,
        level: Level,
    ) -> DevicesError {
        let devices = self.kubelet.devices(resource);
        if devices.is_empty() {
            return DevicesError::Kubelet {
                resource: resource.to_owned(),
                source,
            };
        }
        let none_healthy = devices.iter().all(|device| !device.healthy);
        if resource == RESOURCE_KVM
            && none_healthy
            && let Err(reason) = probe(level).await
        {
            return DevicesError::NoKvm { reason };
        }
        let (resource, healthy, all) = (resource.to_owned(), free(&devices), devices.len());
        DevicesError::NotEnough {
            resource,
            wanted,
            healthy,
            all,
        }
    }

    /// Ends the plugin and the kubelet.
    pub async fn finish(mut self) {
        if let Some(process) = self.plugin() {
            process.signal(nix::sys::signal::Signal::SIGTERM);
        }
        if let Some(child) = &mut self.plugin
            && tokio::time::timeout(process::TERM_GRACE, child.wait())
                .await
                .is_err()
        {
            let _ = child.kill().await;
        }
        self.kubelet.stop().await;
    }
}

fn is_ours(resource: &str) -> bool {
    resource
        .strip_prefix(GROUP)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn spawn(paths: &Paths, request: &Request, resource: &str) -> Result<Child, DevicesError> {
    let program = request
        .program
        .clone()
        .or_else(beside_us)
        .or_else(|| process::find_program(PLUGIN, std::env::var_os("PATH")))
        .ok_or_else(|| DevicesError::NoPlugin {
            resource: resource.to_owned(),
        })?;
    let write = |source| DevicesError::Write {
        path: request.log.clone(),
        source,
    };
    let log = std::fs::File::create(&request.log).map_err(write)?;
    let child = Command::new(&program)
        .arg("run")
        .arg("--kubelet-dir")
        .arg(paths.device_plugins())
        .arg("--node-dir")
        .arg(paths.nodes())
        .arg("--kvm-probe")
        .arg(request.level.to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(|source| DevicesError::Write {
            path: request.log.clone(),
            source,
        })?)
        .stderr(log)
        // Ctrl-C in the terminal is for us alone.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| ProcessError::Start {
            program: program.display().to_string(),
            source,
        })?;
    Ok(child)
}

fn beside_us() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?.with_file_name(PLUGIN);
    program.exists().then_some(program)
}

/// Why KVM cannot be used here, if it cannot.
async fn probe(level: Level) -> Result<(), String> {
    let probe = move || coracle_kvm_probe::probe(Path::new("/dev/kvm"), level);
    match tokio::task::spawn_blocking(probe).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(error) => Err(error.to_string()),
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Refuses an answer that the runtime would silently leave out.
pub fn check_cdi(grants: &[Grant], runtime: &crate::cri::Version) -> Result<(), DevicesError> {
    let old = runtime.name == "containerd"
        && ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6"]
            .iter()
            .any(|version| {
                runtime
                    .version
                    .trim_start_matches('v')
                    .starts_with(&format!("{version}."))
            });
    match grants
        .iter()
        .find(|grant| old && !grant.answer.cdi_devices.is_empty())
    {
        Some(grant) => Err(DevicesError::NoCdi {
            resource: grant.resource.clone(),
            runtime: format!("{} {}", runtime.name, runtime.version),
        }),
        None => Ok(()),
    }
}
