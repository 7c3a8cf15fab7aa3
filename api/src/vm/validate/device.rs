//! The CEL rules of a device, as predicates.

use super::CelRule;
use crate::vm::Device;
use crate::vm::device::NO_DEVICES;

pub(super) const RULES: &[CelRule<Device>] = &[
    CelRule {
        path: ".resource",
        message: "a domain of Kubernetes' own has no devices: use the name that the node's device \
                  plugin advertises",
        holds: |device| {
            !device.resource.contains("kubernetes.io/") && !device.resource.starts_with("requests.")
        },
    },
    CelRule {
        path: ".resource",
        message: "that is no device for a guest: Coracle requests it where a VM needs it",
        holds: |device| !NO_DEVICES.contains(&device.resource.as_str()),
    },
];
