//! The pod network of the private containerd: the `ptp` plugin gives each pod
//! a veth pair of its own, so no bridge stays behind; `host-local` hands out
//! addresses from a directory that every state directory of the machine
//! shares, so two of them never give out one address.
//!
//! CNI specification 0.4.0, which containerd 1.6 and 2 both speak.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where Debian and where upstream's archives put the plugins.
pub const PLUGIN_DIRS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];
/// The plugins that a pod needs.
const PLUGINS: [&str; 3] = ["ptp", "host-local", "loopback"];
/// Leases live here; gone after a reboot, as the pods are.
const LEASES: &str = "/run/coracle/ipam";
/// The network's name, and of its directory of leases.
const NETWORK: &str = "coracle";

/// What is wrong with the pod network.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// The plugins are not installed.
    #[error(
        "the CNI plugin {plugin} is not in {}: install it (Debian: apt-get install \
         containernetworking-plugins)",
        PLUGIN_DIRS.join(" or ")
    )]
    NotThere {
        /// The one that is missing.
        plugin: &'static str,
    },
}

/// An IPv4 subnet for pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodCidr {
    address: Ipv4Addr,
    prefix: u8,
}

/// Text that is no subnet for pods.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is no IPv4 subnet of at least four addresses, such as 10.89.128.0/17")]
pub struct PodCidrError {
    text: String,
}

impl FromStr for PodCidr {
    type Err = PodCidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let address: Ipv4Addr = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            (prefix <= 30 && prefix > 0 && address.to_bits() & host_bits == 0)
                .then_some(Self { address, prefix })
        };
        parse().ok_or_else(|| PodCidrError {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for PodCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Whether pods reach beyond the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerade {
    /// iptables is there; pods leave under the machine's address.
    Yes,
    /// Pods reach the machine and each other only.
    No,
}

/// The directory that holds all the plugins we need.
///
/// # Errors
/// [`CniError::NotThere`], naming the package.
pub fn plugin_dir() -> Result<PathBuf, CniError> {
    let holds = |dir: &str, plugin: &str| Path::new(dir).join(plugin).exists();
    for dir in PLUGIN_DIRS {
        if PLUGINS.iter().all(|plugin| holds(dir, plugin)) {
            return Ok(PathBuf::from(dir));
        }
    }
    let missing = |plugin: &&&str| !PLUGIN_DIRS.iter().any(|dir| holds(dir, plugin));
    let plugin = PLUGINS.iter().find(missing).unwrap_or(&PLUGINS[0]);
    Err(CniError::NotThere { plugin })
}

/// The network configuration list, as JSON.
#[must_use]
pub fn conflist(subnet: PodCidr, masquerade: Masquerade) -> String {
    let list = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": NETWORK,
        "plugins": [{
            "type": "ptp",
            "ipMasq": masquerade == Masquerade::Yes,
            "ipam": {
                "type": "host-local",
                "dataDir": LEASES,
                "ranges": [[{ "subnet": subnet.to_string() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    });
    format!("{list:#}\n")
}

/// The file in which `host-local` remembers who has an address.
#[must_use]
pub fn lease(ip: &str) -> PathBuf {
    Path::new(LEASES).join(NETWORK).join(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_parsed_once_and_strictly() {
        for good in ["10.89.128.0/17", "192.168.0.0/30", "10.0.0.0/8"] {
            assert_eq!(good.parse::<PodCidr>().expect("parses").to_string(), good);
        }
        for bad in [
            "",
            "10.89.128.0",
            "10.89.128.1/17",
            "10.0.0.0/31",
            "0.0.0.0/0",
            "10.0.0.0/33",
            "fd00::/64",
        ] {
            assert!(bad.parse::<PodCidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_conflist_is_what_ptp_and_host_local_read() {
        let subnet = "10.89.128.0/17".parse().expect("parses");
        let list: serde_json::Value =
            serde_json::from_str(&conflist(subnet, Masquerade::Yes)).expect("JSON");
        assert_eq!(list["plugins"][0]["type"], "ptp");
        assert_eq!(list["plugins"][0]["ipMasq"], true);
        assert_eq!(
            list["plugins"][0]["ipam"]["ranges"][0][0]["subnet"],
            "10.89.128.0/17"
        );
    }
}
