//! Which devices there are, and what a container that was given some gets.
//! Pure: answers come from memory.

use std::collections::BTreeMap;

use coracle_api::names::ENV_KVM_PROBE;

use crate::config::{CONTAINER_PATH, Config, Grant, PROBE_DIR, Reports};
use crate::health::Health;
use crate::resource::Resource;

/// Why devices cannot be handed out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocateError {
    /// The plugin has no such device.
    #[error("{resource} has no device {id:?}")]
    UnknownDevice {
        /// The resource.
        resource: &'static str,
        /// The device.
        id: String,
    },
    /// The device cannot be used now.
    #[error("{resource}: device {id:?} is unhealthy: {reason}")]
    Unhealthy {
        /// The resource.
        resource: &'static str,
        /// The device.
        id: String,
        /// Why.
        reason: String,
    },
    /// A container was given no device.
    #[error("{resource}: a container without devices")]
    Nothing {
        /// The resource.
        resource: &'static str,
    },
}

impl From<AllocateError> for tonic::Status {
    fn from(error: AllocateError) -> Self {
        let code = match &error {
            AllocateError::UnknownDevice { .. } => tonic::Code::NotFound,
            AllocateError::Unhealthy { .. } => tonic::Code::FailedPrecondition,
            AllocateError::Nothing { .. } => tonic::Code::InvalidArgument,
        };
        Self::new(code, error.to_string())
    }
}

/// What a container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    /// Environment variables.
    pub(crate) envs: BTreeMap<String, String>,
    /// Its device.
    pub(crate) device: GrantedDevice,
    /// The directory that comes with it.
    pub(crate) mount: Option<GrantedMount>,
}

/// A directory of the host that a container may read. That lets it connect to
/// a socket there, as far as the socket's mode does, and change nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantedMount {
    pub(crate) container_path: &'static str,
    pub(crate) host_path: String,
}

/// How the device gets there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GrantedDevice {
    /// By the kubelet and the runtime, from a node on the host.
    Node {
        container_path: &'static str,
        host_path: String,
    },
    /// By the runtime, from a CDI specification.
    Cdi { name: String },
}

/// What one container gets that was given these devices.
pub(crate) fn allocate(
    config: &Config,
    resource: Resource,
    health: &Health,
    ids: &[String],
) -> Result<Granted, AllocateError> {
    let name = resource.name();
    let first = ids
        .first()
        .ok_or(AllocateError::Nothing { resource: name })?;
    if let Some(id) = ids.iter().find(|id| !resource.has(id, config)) {
        return Err(AllocateError::UnknownDevice {
            resource: name,
            id: id.clone(),
        });
    }
    if let Some(reason) = health.reason() {
        let reason = reason.to_owned();
        return Err(AllocateError::Unhealthy {
            resource: name,
            id: first.clone(),
            reason,
        });
    }
    let mut envs = BTreeMap::from([(env_name(name), ids.join(","))]);
    let mount = match resource {
        Resource::Kvm => {
            envs.insert(ENV_KVM_PROBE.to_owned(), config.level.to_string());
            None
        }
        Resource::Probe => config.prober.as_ref().map(reports),
    };
    Ok(Granted {
        envs,
        device: device(&config.grant),
        mount,
    })
}

/// Every container gets the device on the same road: what the prober finds
/// holds for the others.
fn device(grant: &Grant) -> GrantedDevice {
    match grant {
        Grant::Node { .. } => GrantedDevice::Node {
            container_path: CONTAINER_PATH,
            host_path: grant.path().display().to_string(),
        },
        Grant::Cdi { .. } => GrantedDevice::Cdi {
            name: format!("{}=kvm", Resource::Kvm.name()),
        },
    }
}

fn reports(reports: &Reports) -> GrantedMount {
    GrantedMount {
        container_path: PROBE_DIR,
        host_path: reports.dir.display().to_string(),
    }
}

/// The variable that names a container's devices of a resource.
fn env_name(resource: &str) -> String {
    let name = resource.to_uppercase().replace(['.', '/', '-'], "_");
    format!("CORACLE_DEVICE_{name}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coracle_kvm_probe::Level;

    use super::*;

    fn config(grant: Grant) -> Config {
        Config {
            kubelet_dir: "/k".into(),
            device: "/dev/kvm".into(),
            count: 3,
            level: Level::Run,
            grant,
            prober: Some(Reports {
                dir: "/run/x".into(),
                grace: Duration::from_secs(60),
            }),
        }
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn a_container_gets_the_node_and_is_told_its_slots() {
        let node = config(Grant::Node {
            dir: "/run/coracle/dev".into(),
        });
        let granted = allocate(
            &node,
            Resource::Kvm,
            &Health::Healthy,
            &ids(&["kvm-0", "kvm-2"]),
        )
        .expect("both");
        assert_eq!(
            granted.envs["CORACLE_DEVICE_CORACLE_DEV_KVM"],
            "kvm-0,kvm-2"
        );
        assert_eq!(granted.envs["CORACLE_KVM_PROBE"], "run");
        assert_eq!(
            granted.device,
            GrantedDevice::Node {
                container_path: "/dev/kvm",
                host_path: "/run/coracle/dev/kvm".into()
            }
        );
        assert_eq!(granted.mount, None);
        let cdi = config(Grant::Cdi { dir: "/c".into() });
        let granted =
            allocate(&cdi, Resource::Kvm, &Health::Healthy, &ids(&["kvm-0"])).expect("one");
        assert_eq!(
            granted.device,
            GrantedDevice::Cdi {
                name: "coracle.dev/kvm=kvm".into()
            }
        );
    }

    #[test]
    fn unknown_devices_are_named() {
        let config = config(Grant::Node { dir: "/d".into() });
        for bad in [
            "kvm-3", "kvm-01", "kvm-+1", "kvm-", "kvm", "", "tun-0", "kvm--1", " kvm-0",
        ] {
            let error = allocate(
                &config,
                Resource::Kvm,
                &Health::Healthy,
                &ids(&["kvm-0", bad]),
            )
            .expect_err("unknown");
            assert_eq!(
                error.to_string(),
                format!("coracle.dev/kvm has no device {bad:?}")
            );
        }
        let error = allocate(&config, Resource::Kvm, &Health::Healthy, &[]).expect_err("nothing");
        assert!(matches!(error, AllocateError::Nothing { .. }));
    }

    #[test]
    fn an_unhealthy_device_is_refused_with_the_reason() {
        let config = config(Grant::Node { dir: "/d".into() });
        let health = Health::Unhealthy {
            reason: "KVM is slow".into(),
        };
        let error =
            allocate(&config, Resource::Kvm, &health, &ids(&["kvm-1"])).expect_err("unhealthy");
        assert_eq!(
            error.to_string(),
            "coracle.dev/kvm: device \"kvm-1\" is unhealthy: KVM is slow"
        );
    }

    #[test]
    fn the_prober_gets_the_same_device_and_the_way_to_report() {
        let config = config(Grant::Node { dir: "/d".into() });
        let kvm =
            allocate(&config, Resource::Kvm, &Health::Healthy, &ids(&["kvm-0"])).expect("one");
        let granted = |id| allocate(&config, Resource::Probe, &Health::Healthy, &ids(&[id]));
        let probe = granted("kvm-probe-0").expect("the one");
        assert_eq!(probe.device, kvm.device);
        assert_eq!(
            probe.mount,
            Some(GrantedMount {
                container_path: "/run/coracle/probe",
                host_path: "/run/x".into()
            })
        );
        for other in ["kvm-probe-1", "kvm-0", "kvm-probe", "kvm-probe0"] {
            let error = granted(other).expect_err("not one of its");
            assert!(matches!(error, AllocateError::UnknownDevice { .. }));
        }
    }
}
