//! Which devices there are, and what a container that was given some gets.
//! Pure: answers come from memory.

use std::collections::BTreeMap;

use coracle_api::names::ENV_KVM_PROBE;

use crate::config::{CONTAINER_PATH, Config, Grant};
use crate::health::Health;

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

/// Name of a device; the same over restarts and reboots.
pub(crate) fn id(index: usize) -> String {
    format!("kvm-{index}")
}

/// Whether there is a device of that name. Only the canonical spelling is
/// one: `kvm-01` would be a second name for `kvm-1`.
fn exists(name: &str, count: usize) -> bool {
    name.strip_prefix("kvm-")
        .and_then(|index| index.parse::<usize>().ok())
        .is_some_and(|index| index < count && id(index) == name)
}

/// What one container gets that was given these devices.
pub(crate) fn allocate(
    config: &Config,
    health: &Health,
    ids: &[String],
) -> Result<Granted, AllocateError> {
    let resource = Config::RESOURCE;
    let first = ids.first().ok_or(AllocateError::Nothing { resource })?;
    if let Some(id) = ids.iter().find(|id| !exists(id, config.count)) {
        return Err(AllocateError::UnknownDevice {
            resource,
            id: id.clone(),
        });
    }
    if let Some(reason) = health.reason() {
        let reason = reason.to_owned();
        return Err(AllocateError::Unhealthy {
            resource,
            id: first.clone(),
            reason,
        });
    }
    let envs = BTreeMap::from([
        (env_name(resource), ids.join(",")),
        (ENV_KVM_PROBE.to_owned(), config.level.to_string()),
    ]);
    let device = match &config.grant {
        grant @ Grant::Node { .. } => GrantedDevice::Node {
            container_path: CONTAINER_PATH,
            host_path: grant.path().display().to_string(),
        },
        Grant::Cdi { .. } => GrantedDevice::Cdi {
            name: format!("{resource}=kvm"),
        },
    };
    Ok(Granted { envs, device })
}

/// The variable that names a container's devices of a resource.
fn env_name(resource: &str) -> String {
    let name = resource.to_uppercase().replace(['.', '/', '-'], "_");
    format!("CORACLE_DEVICE_{name}")
}

#[cfg(test)]
mod tests {
    use coracle_kvm_probe::Level;

    use super::*;

    fn config(grant: Grant) -> Config {
        Config {
            kubelet_dir: "/k".into(),
            device: "/dev/kvm".into(),
            count: 3,
            level: Level::Run,
            grant,
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
        let granted = allocate(&node, &Health::Healthy, &ids(&["kvm-0", "kvm-2"])).expect("both");
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
        let cdi = config(Grant::Cdi { dir: "/c".into() });
        let granted = allocate(&cdi, &Health::Healthy, &ids(&["kvm-0"])).expect("one");
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
            let error =
                allocate(&config, &Health::Healthy, &ids(&["kvm-0", bad])).expect_err("unknown");
            assert_eq!(
                error.to_string(),
                format!("coracle.dev/kvm has no device {bad:?}")
            );
        }
        let error = allocate(&config, &Health::Healthy, &[]).expect_err("nothing");
        assert!(matches!(error, AllocateError::Nothing { .. }));
    }

    #[test]
    fn an_unhealthy_device_is_refused_with_the_reason() {
        let config = config(Grant::Node { dir: "/d".into() });
        let health = Health::Unhealthy {
            reason: "KVM is slow".into(),
        };
        let error = allocate(&config, &health, &ids(&["kvm-1"])).expect_err("unhealthy");
        assert_eq!(
            error.to_string(),
            "coracle.dev/kvm: device \"kvm-1\" is unhealthy: KVM is slow"
        );
    }
}
