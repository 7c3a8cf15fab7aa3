//! What the plugin advertises: a resource's name and what is the same for all
//! of its devices. Each resource is registered by itself.

use std::collections::BTreeMap;

use coracle_api::names::{
    ENV_KVM_PROBE, GROUP, RESOURCE_KVM, RESOURCE_KVM_PROBE, RESOURCE_TUN, RESOURCE_VHOST_NET,
    RESOURCE_VHOST_VSOCK,
};
use serde::Serialize;

use crate::config::{Config, PROBE_DIR};

/// The longest name that is part of a socket's name: a socket's path has room
/// for 107 bytes, and the kubelet's directory may be a long one.
const SOCKET_NAME_MAX: usize = 30;

/// The one device of KVM.
pub(crate) const KVM_DEVICE: &str = "kvm";

/// How the variables begin that name a container's devices.
pub(crate) const ENV_PREFIX: &str = "CORACLE_DEVICE_";

/// What kind of devices a resource has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Character devices, in slots that share one.
    Chardev,
    /// PCI functions, by VFIO.
    Pci,
    /// Mediated devices, by VFIO.
    Mdev,
    /// USB devices.
    Usb,
}

/// Whose names of environment variables a container gets beside ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Compatibility {
    /// `KubeVirt`'s.
    Kubevirt,
    /// The SR-IOV network device plugin's.
    Sriov,
}

/// A device of every node, not of the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Builtin {
    /// The resource.
    pub(crate) name: &'static str,
    /// The device's path below `/dev`.
    pub(crate) path: &'static str,
    /// What makes it appear where it is missing.
    pub(crate) hint: &'static str,
}

/// The built-in resources beside KVM, which is more than a node: whether a
/// guest runs on it decides.
pub(crate) const BUILTINS: [Builtin; 3] = [
    Builtin {
        name: RESOURCE_TUN,
        path: "net/tun",
        hint: "load the module tun",
    },
    Builtin {
        name: RESOURCE_VHOST_NET,
        path: "vhost-net",
        hint: "load the module vhost_net",
    },
    Builtin {
        name: RESOURCE_VHOST_VSOCK,
        path: "vhost-vsock",
        hint: "load the module vhost_vsock",
    },
];

/// A directory of the host that a container may read. That lets it connect to
/// a socket there, as far as the socket's mode does, and change nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantedMount {
    pub(crate) container_path: &'static str,
    pub(crate) host_path: String,
}

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// Its name in Kubernetes.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) compatibility: Vec<Compatibility>,
    /// Environment variables of every container that has some of it.
    pub(crate) envs: BTreeMap<String, String>,
    /// A directory of every container that has some of it.
    pub(crate) mount: Option<GrantedMount>,
    /// The resource whose CDI specification has the devices.
    pub(crate) cdi: String,
    /// The one device there is in that, where it does not have our name for it.
    pub(crate) cdi_device: Option<&'static str>,
}

impl Resource {
    pub(crate) fn new(name: &str, kind: Kind, compatibility: Vec<Compatibility>) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            compatibility,
            envs: BTreeMap::new(),
            mount: None,
            cdi: name.to_owned(),
            cdi_device: None,
        }
    }

    /// A usable `/dev/kvm`.
    pub(crate) fn kvm(config: &Config) -> Self {
        let level = (ENV_KVM_PROBE.to_owned(), config.level.to_string());
        Self {
            envs: BTreeMap::from([level]),
            ..Self::new(RESOURCE_KVM, Kind::Chardev, vec![])
        }
    }

    /// The place of the prober, which finds out whether it is usable. It gets
    /// the device on the same road: what it finds holds for the others.
    pub(crate) fn kvm_probe(config: &Config) -> Self {
        let mount = config.prober.as_ref().map(|reports| GrantedMount {
            container_path: PROBE_DIR,
            host_path: reports.dir.display().to_string(),
        });
        Self {
            mount,
            cdi: RESOURCE_KVM.to_owned(),
            cdi_device: Some(KVM_DEVICE),
            ..Self::new(RESOURCE_KVM_PROBE, Kind::Chardev, vec![])
        }
    }

    /// File name of its socket in the kubelet's directory.
    pub(crate) fn socket(&self) -> String {
        socket(&self.name)
    }

    /// The variable that names a container's devices of it.
    pub(crate) fn env(&self) -> String {
        env_name(&self.name)
    }

    /// Whether one of its devices is as good as another.
    pub(crate) fn is_uniform(&self) -> bool {
        self.kind == Kind::Chardev
    }
}

/// File name of a resource's socket; no two resources have the same.
pub(crate) fn socket(resource: &str) -> String {
    match resource.split_once('/') {
        Some((GROUP, name)) if name.len() <= SOCKET_NAME_MAX => format!("coracle-{name}.sock"),
        _ => {
            let name = resource.rsplit('/').next().unwrap_or_default();
            let name: String = name.chars().take(SOCKET_NAME_MAX).collect();
            format!("coracle-{name}.{:016x}.sock", fnv(resource))
        }
    }
}

/// FNV-1a: names are few, and an admin's own.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Our variable for a resource: a name that a shell takes.
pub(crate) fn env_name(resource: &str) -> String {
    let name = resource.to_uppercase().replace(['.', '/', '-'], "_");
    format!("{ENV_PREFIX}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_short_and_different() {
        assert_eq!(socket(RESOURCE_KVM), "coracle-kvm.sock");
        assert_eq!(socket(RESOURCE_VHOST_NET), "coracle-vhost-net.sock");
        let long = format!("{}/{}", "d".repeat(250), "n".repeat(63));
        for (one, other) in [
            ("a.b/c", "a/b.c"),
            ("example.com/kvm", RESOURCE_KVM),
            (long.as_str(), &long[1..]),
        ] {
            assert_ne!(socket(one), socket(other));
            assert!(socket(one).len() <= 64, "{}", socket(one));
        }
    }
}
