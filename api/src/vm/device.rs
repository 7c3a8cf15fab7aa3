//! Devices of the node that a VM is given.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each struct, with its `pub`, inside a function"
)]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::names::{
    RESOURCE_KVM, RESOURCE_KVM_PROBE, RESOURCE_TUN, RESOURCE_VHOST_NET, RESOURCE_VHOST_VSOCK,
};

/// The resources that are no devices for a guest.
pub(super) const NO_DEVICES: [&str; 5] = [
    RESOURCE_KVM,
    RESOURCE_KVM_PROBE,
    RESOURCE_TUN,
    RESOURCE_VHOST_NET,
    RESOURCE_VHOST_VSOCK,
];

/// A PCI function, a mediated device or a USB device of the node, which the guest has to itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.resource.contains('kubernetes.io/') && !self.resource.startsWith('requests.')")
    .message("a domain of Kubernetes' own has no devices: use the name that the node's device plugin advertises").field_path(".resource"))]
#[x_kube(validation = Rule::new("!(self.resource in ['coracle.dev/kvm', 'coracle.dev/kvm-probe', 'coracle.dev/tun', 'coracle.dev/vhost-net', 'coracle.dev/vhost-vsock'])")
    .message("that is no device for a guest: Coracle requests it where a VM needs it").field_path(".resource"))]
pub struct Device {
    /// Unique in the VM.
    #[schemars(
        length(min = 1, max = 50),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// The extended resource that a device plugin advertises it as: `domain/name`. Each device is one unit of it.
    #[schemars(
        length(min = 3, max = 308),
        regex(
            pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*/[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
        )
    )]
    pub resource: String,
}
