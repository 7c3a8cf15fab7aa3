//! What the API server would refuse, where there is none.
//!
//! Bounds, patterns and list keys are read from the generated schema, so that
//! they cannot differ from it. The CEL rules are written again as predicates,
//! under the very messages of the rules; a test holds the two lists together.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use kube::CustomResourceExt;
use serde_json::Value;

use super::{Disk, MAX_VM_NAME, Throttle, VirtualMachine, VirtualMachineSpec};
use crate::types::{CacheMode, DetectZeroes, DiscardMode, DiskBus, DiskType, IoMode};

mod bounds;
mod device;
mod import;

/// One thing that is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, as `spec.disks[0].name`.
    pub path: String,
    /// What, as a sentence for a person.
    pub message: String,
}

impl Problem {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

/// Everything that the schema's bounds and the CEL rules find wrong with a
/// new object; rules about updates do not apply. Empty when all is well.
#[must_use]
pub fn validate(vm: &VirtualMachine) -> Vec<Problem> {
    let mut problems = Vec::new();
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    if name.is_empty() {
        problems.push(Problem::new(
            "metadata.name",
            "a VirtualMachine needs a name",
        ));
    } else if !is_dns_label(name) {
        problems.push(Problem::new(
            "metadata.name",
            "must be lower-case letters, digits and '-', and begin and end with a letter or digit",
        ));
    }
    let value = serde_json::to_value(&vm.spec).expect("a spec is JSON");
    bounds::check(&SPEC_SCHEMA, &value, "spec", &mut problems);
    problems.extend(broken_rules(vm));
    problems
}

/// What the CEL rules alone find wrong with a new object, in their words.
#[must_use]
pub fn broken_rules(vm: &VirtualMachine) -> Vec<Problem> {
    let mut problems = Vec::new();
    if vm.metadata.name.as_deref().unwrap_or_default().len() > MAX_VM_NAME {
        problems.push(Problem::new("metadata.name", NAME_TOO_LONG));
    }
    problems.extend(
        SPEC_RULES
            .iter()
            .filter(|rule| !(rule.holds)(&vm.spec))
            .map(|rule| Problem::new(rule.path, rule.message)),
    );
    broken("spec.disks", &vm.spec.disks, DISK_RULES, &mut problems);
    broken(
        "spec.devices",
        &vm.spec.devices,
        device::RULES,
        &mut problems,
    );
    problems.extend(import::broken(&vm.spec.disks));
    problems
}

/// The rules that the items of a list break.
fn broken<T>(path: &str, items: &[T], rules: &[CelRule<T>], problems: &mut Vec<Problem>) {
    for (index, item) in items.iter().enumerate() {
        let broken = rules.iter().filter(|rule| !(rule.holds)(item));
        problems.extend(broken.map(|rule| {
            let path = format!("{path}[{index}]{}", rule.path);
            Problem::new(path, rule.message)
        }));
    }
}

fn is_dns_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// Generating the definition takes longer than all the checks.
static SPEC_SCHEMA: LazyLock<JSONSchemaProps> = LazyLock::new(|| {
    let mut crd = VirtualMachine::crd();
    let version = crd.spec.versions.swap_remove(0);
    let root = version.schema.and_then(|schema| schema.open_api_v3_schema);
    let spec = root
        .and_then(|root| root.properties)
        .and_then(|mut all| all.remove("spec"));
    spec.expect("the derived definition has a schema with a spec")
});

struct CelRule<T: 'static> {
    path: &'static str,
    message: &'static str,
    holds: fn(&T) -> bool,
}

const NAME_TOO_LONG: &str =
    "metadata.name must have at most 52 characters: the pod is named after it";

const SPEC_RULES: &[CelRule<VirtualMachineSpec>] = &[
    CelRule {
        path: "spec.cpuTopology",
        message: "sockets × cores × threads must equal spec.cpus",
        holds: |spec| {
            spec.cpu_topology.as_ref().is_none_or(|t| {
                u64::from(t.sockets) * u64::from(t.cores) * u64::from(t.threads)
                    == u64::from(spec.cpus)
            })
        },
    },
    CelRule {
        path: "spec.disks",
        message: "two disks have the same bootOrder",
        holds: |spec| all_differ(spec.disks.iter().filter_map(|disk| disk.boot_order)),
    },
    CelRule {
        path: "spec.disks",
        message: "two disks use the same claim",
        holds: |spec| {
            all_differ(
                spec.disks
                    .iter()
                    .filter_map(|disk| Some(&disk.claim.as_ref()?.name)),
            )
        },
    },
    CelRule {
        path: "spec.disks",
        message: "at most 6 disks can be on bus Sata",
        holds: |spec| {
            spec.disks
                .iter()
                .filter(|disk| disk.bus == DiskBus::Sata)
                .count()
                <= 6
        },
    },
    CelRule {
        path: "spec",
        message: "nothing to boot from: add a disk with a claim, or spec.firmware.kernel",
        holds: |spec| {
            spec.firmware
                .as_ref()
                .is_some_and(|firmware| firmware.kernel.is_some())
                || spec
                    .disks
                    .iter()
                    .any(|disk| has_claim(disk) || disk.image.is_some() || disk.ephemeral.is_some())
        },
    },
    CelRule {
        path: "spec.firmware",
        message: "say exactly one of bios and kernel",
        holds: |spec| {
            spec.firmware
                .as_ref()
                .is_none_or(|f| f.bios.is_some() != f.kernel.is_some())
        },
    },
];

const DISK_RULES: &[CelRule<Disk>] = &[
    CelRule {
        path: "",
        message: "say exactly one of claim, claimTemplate, image, cloudInit and ephemeral",
        holds: |disk| {
            [
                disk.claim.is_some(),
                disk.claim_template.is_some(),
                disk.image.is_some(),
                disk.cloud_init.is_some(),
                disk.ephemeral.is_some(),
            ]
            .iter()
            .filter(|set| **set)
            .count()
                == 1
        },
    },
    CelRule {
        path: ".shareable",
        message: "shareable needs cache None: another VM's writes would not be seen",
        holds: |disk| !disk.shareable || disk.cache == CacheMode::None,
    },
    CelRule {
        path: ".shareable",
        message: "only a disk with a claim can be shareable",
        holds: |disk| !disk.shareable || has_claim(disk),
    },
    CelRule {
        path: ".shareable",
        message: "two VMs could fill a shareable disk at once: fill the claim with a VM that has \
                  it alone",
        holds: |disk| !disk.shareable || disk.from().is_none(),
    },
    CelRule {
        path: ".image",
        message: "image.size is for a disk that the guest writes to: take it out, or readOnly and \
                  type Cdrom",
        holds: |disk| {
            let size = disk.image.as_ref().and_then(|image| image.size.as_ref());
            size.is_none() || !disk.read_only && disk.disk_type != DiskType::Cdrom
        },
    },
    CelRule {
        path: ".io",
        message: "io Native needs cache None",
        holds: |disk| disk.io != IoMode::Native || disk.cache == CacheMode::None,
    },
    CelRule {
        path: ".blockSize",
        message: "blockSize.logical must not be larger than blockSize.physical",
        holds: |disk| {
            disk.block_size
                .is_none_or(|size| size.logical <= size.physical)
        },
    },
    CelRule {
        path: ".queues",
        message: "queues needs bus Virtio",
        holds: |disk| disk.queues.is_none() || disk.bus == DiskBus::Virtio,
    },
    CelRule {
        path: ".iothread",
        message: "iothread needs bus Virtio",
        holds: |disk| !disk.iothread || disk.bus == DiskBus::Virtio,
    },
    CelRule {
        path: ".bus",
        message: "bus Sata has no read-only disks: choose type Cdrom, or bus Virtio, Scsi or Usb",
        holds: |disk| {
            disk.bus != DiskBus::Sata
                || disk.disk_type == DiskType::Cdrom
                || disk.cloud_init.is_none() && !disk.read_only
        },
    },
    CelRule {
        path: ".cache",
        message: "cache Writethrough has no effect on bus Usb: choose Virtio, Scsi or Sata",
        holds: |disk| disk.bus != DiskBus::Usb || disk.cache != CacheMode::Writethrough,
    },
    CelRule {
        path: ".blockSize",
        message: "blockSize has no effect on bus Usb: choose Virtio, Scsi or Sata",
        holds: |disk| disk.bus != DiskBus::Usb || disk.block_size.is_none(),
    },
    CelRule {
        path: ".type",
        message: "type Cdrom needs bus Scsi or Sata",
        holds: |disk| {
            disk.disk_type != DiskType::Cdrom || matches!(disk.bus, DiskBus::Scsi | DiskBus::Sata)
        },
    },
    CelRule {
        path: ".blockSize",
        message: "blockSize has no effect on type Cdrom",
        holds: |disk| disk.disk_type != DiskType::Cdrom || disk.block_size.is_none(),
    },
    CelRule {
        path: ".type",
        message: "type Lun needs bus Scsi, a claim and cache None",
        holds: |disk| {
            disk.disk_type != DiskType::Lun
                || disk.bus == DiskBus::Scsi && has_claim(disk) && disk.cache == CacheMode::None
        },
    },
    CelRule {
        path: ".type",
        message: "type Lun is the device itself: throttle, blockSize, serial and detectZeroes have \
                  no effect on it",
        holds: |disk| {
            disk.disk_type != DiskType::Lun
                || disk.throttle.is_none()
                    && disk.block_size.is_none()
                    && disk.serial.is_none()
                    && disk.detect_zeroes == DetectZeroes::Ignore
        },
    },
    CelRule {
        path: ".detectZeroes",
        message: "detectZeroes Unmap needs discard Unmap",
        holds: |disk| {
            disk.detect_zeroes != DetectZeroes::Unmap || disk.discard == DiscardMode::Unmap
        },
    },
    CelRule {
        path: ".throttle",
        message: "say either iops, or readIops and writeIops",
        holds: |disk| {
            disk.throttle.as_ref().is_none_or(|limits| {
                limits.iops.is_none() || limits.read_iops.is_none() && limits.write_iops.is_none()
            })
        },
    },
    CelRule {
        path: ".throttle",
        message: "say either bandwidth, or readBandwidth and writeBandwidth",
        holds: |disk| {
            disk.throttle.as_ref().is_none_or(|limits| {
                limits.bandwidth.is_none()
                    || limits.read_bandwidth.is_none() && limits.write_bandwidth.is_none()
            })
        },
    },
    CelRule {
        path: ".throttle",
        message: "throttle limits nothing: say iops or bandwidth",
        holds: |disk| {
            let none = Throttle::default();
            disk.throttle.as_ref().is_none_or(|limits| {
                Throttle {
                    burst: None,
                    ..limits.clone()
                } != none
            })
        },
    },
    CelRule {
        path: ".claimTemplate",
        message: "say at most one of dataSource and dataSourceRef",
        holds: |disk| {
            disk.claim_template.as_ref().is_none_or(|template| {
                template.data_source.is_none() || template.data_source_ref.is_none()
            })
        },
    },
    CelRule {
        path: ".claimTemplate.from",
        message: "from fills an empty volume: take it out, or dataSource and dataSourceRef",
        holds: |disk| {
            disk.claim_template.as_ref().is_none_or(|template| {
                template.from.is_none()
                    || template.data_source.is_none() && template.data_source_ref.is_none()
            })
        },
    },
    CelRule {
        path: ".claim.from",
        message: "a claim cannot be filled from itself: name another one in from.claim",
        holds: |disk| {
            let claim = disk.claim.as_ref();
            let from = claim.and_then(|claim| claim.from.as_ref()?.claim.as_ref());
            from.is_none_or(|from| claim.is_some_and(|claim| claim.name != from.name))
        },
    },
    CelRule {
        path: ".cloudInit",
        message: "say exactly one of userData and userDataFrom",
        holds: |disk| {
            disk.cloud_init
                .as_ref()
                .is_none_or(|data| data.user_data.is_some() != data.user_data_from.is_some())
        },
    },
];

fn has_claim(disk: &Disk) -> bool {
    disk.claim.is_some() || disk.claim_template.is_some()
}

fn all_differ<T: Ord>(items: impl Iterator<Item = T>) -> bool {
    let mut sorted: Vec<T> = items.collect();
    sorted.sort();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}

/// The elements of a list, or none.
fn elements(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;
