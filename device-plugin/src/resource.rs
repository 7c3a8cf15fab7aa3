//! What the plugin advertises.

use coracle_api::names::{RESOURCE_KVM, RESOURCE_KVM_PROBE};

use crate::config::Config;

/// One of the plugin's resources; each is registered by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// A usable `/dev/kvm`.
    Kvm,
    /// The place of the prober, which finds out whether it is usable.
    Probe,
}

impl Resource {
    /// Its name in Kubernetes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kvm => RESOURCE_KVM,
            Self::Probe => RESOURCE_KVM_PROBE,
        }
    }

    /// File name of its socket in the kubelet's directory.
    pub(crate) fn socket(self) -> &'static str {
        match self {
            Self::Kvm => "coracle-kvm.sock",
            Self::Probe => "coracle-kvm-probe.sock",
        }
    }

    /// How many of it a node has.
    pub(crate) fn count(self, config: &Config) -> usize {
        match self {
            Self::Kvm => config.count,
            Self::Probe => 1,
        }
    }

    /// Name of one of its devices; the same over restarts and reboots.
    pub(crate) fn id(self, index: usize) -> String {
        format!("{}-{index}", self.prefix())
    }

    /// Whether it has a device of that name. Only the canonical spelling is
    /// one: `kvm-01` would be a second name for `kvm-1`.
    pub(crate) fn has(self, name: &str, config: &Config) -> bool {
        name.strip_prefix(self.prefix())
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|index| index.parse::<usize>().ok())
            .is_some_and(|index| index < self.count(config) && self.id(index) == name)
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Probe => "kvm-probe",
        }
    }
}
