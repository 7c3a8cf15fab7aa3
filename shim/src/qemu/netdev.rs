//! `-netdev`: how a network card reaches its network.

use coracle_api::machine::Interface;
use coracle_api::types::Binding;
use serde::Serialize;

use super::switch::{Switch, json};

/// The longest host name that a guest takes (`HOST_NAME_MAX` of Linux).
const HOSTNAME_MAX: usize = 64;

/// `-netdev`
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Netdev {
    /// User-mode network (slirp): the guest is 10.0.2.15 behind the pod's own
    /// address, its name server is the pod's.
    User {
        id: String,
        /// Off: slirp would give every guest a site-local address and a
        /// default route, and in a pod without IPv6 every connection would
        /// first try, and wait for, a road that leads nowhere.
        ipv6: bool,
        /// What the guest is told by DHCP.
        #[serde(skip_serializing_if = "Option::is_none")]
        hostname: Option<String>,
    },
}

/// The id of an interface's network.
pub(super) fn id(index: usize) -> String {
    format!("net{index}")
}

impl Netdev {
    pub(crate) fn of(index: usize, interface: &Interface, name: &str) -> Self {
        match interface.binding {
            Binding::Slirp => Self::User {
                id: id(index),
                ipv6: false,
                hostname: (name.len() <= HOSTNAME_MAX).then(|| name.to_owned()),
            },
        }
    }
}

impl Switch for Netdev {
    fn name(&self) -> &'static str {
        "-netdev"
    }

    fn value(&self) -> Option<String> {
        Some(json(self))
    }
}
