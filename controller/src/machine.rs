//! From the plan to the machine description.

use std::num::NonZeroU64;

use coracle_api::machine::{
    CloudInitData, Cpu, Device, Disk, DiskSource, Firmware, Interface, MACHINE_VERSION, Machine,
    Rate, Throttle,
};
use coracle_api::names::{CLOUD_INIT_DIR, DISK_IMAGE, EPHEMERAL_DIR, IMAGE_DIR, KERNEL_DIR};
use coracle_api::vm::{self, MemorySize};

use crate::digest::fnv1a;
use crate::plan::{PlannedDisk, PlannedSource, VmPlan, read_only};

/// virtio-blk shows 20 bytes of serial number (virtio specification §5.2.6).
const SERIAL_MAX: usize = 20;

/// The description of the machine that `plan` is for.
#[must_use]
pub fn machine(plan: &VmPlan<'_>) -> Machine {
    let spec = &plan.vm.spec;
    Machine {
        version: MACHINE_VERSION,
        name: plan.name.to_owned(),
        namespace: plan.namespace.to_owned(),
        uid: plan.vm.metadata.uid.clone(),
        accelerator: spec.accelerator,
        cpu: cpu(spec),
        memory_bytes: plan.memory_bytes,
        firmware: firmware(spec),
        disks: plan.disks.iter().map(disk).collect(),
        interfaces: spec.interfaces.iter().map(|i| interface(plan, i)).collect(),
        devices: spec.devices.iter().map(device).collect(),
        shutdown_seconds: shutdown_seconds(spec.termination_grace_period_seconds),
    }
}

fn cpu(spec: &vm::VirtualMachineSpec) -> Cpu {
    let model = spec.cpu_model.clone();
    match &spec.cpu_topology {
        Some(t) => Cpu {
            sockets: t.sockets,
            cores: t.cores,
            threads: t.threads,
            model,
        },
        None => Cpu {
            sockets: 1,
            cores: spec.cpus,
            threads: 1,
            model,
        },
    }
}

fn firmware(spec: &vm::VirtualMachineSpec) -> Firmware {
    let in_claim = |path: &String| format!("{KERNEL_DIR}/{path}");
    match spec
        .firmware
        .as_ref()
        .and_then(|firmware| firmware.kernel.as_ref())
    {
        None => Firmware::Bios {},
        Some(kernel) => Firmware::Kernel {
            kernel: in_claim(&kernel.path),
            initrd: kernel.initrd.as_ref().map(in_claim),
            cmdline: kernel.cmdline.clone(),
        },
    }
}

fn disk(planned: &PlannedDisk<'_>) -> Disk {
    let PlannedDisk { disk, source, .. } = planned;
    Disk {
        name: disk.name.clone(),
        source: disk_source(disk, source),
        bus: disk.bus,
        disk_type: disk.disk_type,
        cache: disk.cache,
        io: disk.io,
        discard: disk.discard,
        detect_zeroes: disk.detect_zeroes,
        error_policy: disk.error_policy,
        read_only: read_only(disk),
        shareable: disk.shareable,
        serial: disk
            .serial
            .clone()
            .unwrap_or_else(|| disk.name.chars().take(SERIAL_MAX).collect()),
        boot_index: disk.boot_order,
        iothread: disk.iothread,
        queues: disk.queues,
        block_size: disk.block_size,
        throttle: disk.throttle.as_ref().map(throttle),
    }
}

fn throttle(limits: &vm::Throttle) -> Throttle {
    let requests = |limit: Option<u32>| NonZeroU64::new(limit?.into());
    let bytes = |limit: &Option<MemorySize>| NonZeroU64::new(limit.as_ref()?.bytes()?);
    Throttle {
        iops: Rate {
            total: requests(limits.iops),
            read: requests(limits.read_iops),
            write: requests(limits.write_iops),
        },
        bytes: Rate {
            total: bytes(&limits.bandwidth),
            read: bytes(&limits.read_bandwidth),
            write: bytes(&limits.write_bandwidth),
        },
        burst: limits.burst,
    }
}

fn disk_source(disk: &vm::Disk, source: &PlannedSource<'_>) -> DiskSource {
    let name = &disk.name;
    match source {
        PlannedSource::Claim(plan) => plan.source.clone(),
        PlannedSource::Ephemeral(size) => DiskSource::Ephemeral {
            path: format!("{EPHEMERAL_DIR}/{name}/{DISK_IMAGE}"),
            size_bytes: *size,
        },
        PlannedSource::Image(image) => DiskSource::Image {
            root: format!("{IMAGE_DIR}/{name}"),
            path: image.path.clone(),
            overlay: (!read_only(disk)).then(|| format!("{EPHEMERAL_DIR}/{name}")),
            size_bytes: image.size.as_ref().and_then(MemorySize::bytes),
        },
        PlannedSource::CloudInit(data) => DiskSource::CloudInit {
            user_data: match &data.user_data {
                Some(text) => CloudInitData::Inline(text.clone()),
                None => CloudInitData::Path(format!("{CLOUD_INIT_DIR}/{name}/userdata")),
            },
            network_data: data.network_data.clone().map(CloudInitData::Inline),
        },
    }
}

fn interface(plan: &VmPlan<'_>, interface: &vm::Interface) -> Interface {
    Interface {
        name: interface.name.clone(),
        binding: interface.binding,
        model: interface.model,
        mac_address: interface.mac_address.clone().map_or_else(
            || stable_mac(plan.namespace, plan.name, &interface.name),
            |given| given.to_ascii_lowercase(),
        ),
    }
}

fn device(device: &vm::Device) -> Device {
    Device {
        name: device.name.clone(),
        resource: device.resource.clone(),
    }
}

/// A locally administered address that only changes when a name does, so that
/// the guest finds its card again after a restart on whatever node.
fn stable_mac(namespace: &str, vm: &str, interface: &str) -> String {
    let hash = fnv1a(format!("{namespace}/{vm}/{interface}").as_bytes());
    let bytes: Vec<String> = hash
        .to_be_bytes()
        .iter()
        .skip(3)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("02:{}", bytes.join(":"))
}

/// How long the shim waits for the guest. It keeps a fifth of the pod's grace
/// period, at most 5 s, to end qemu and report before the kubelet kills it.
fn shutdown_seconds(grace: i64) -> u64 {
    let grace = u64::try_from(grace).unwrap_or_default();
    grace.saturating_sub((grace / 5).clamp(1, 5)).max(1)
}

#[cfg(test)]
mod tests {
    use super::{shutdown_seconds, stable_mac};

    #[test]
    fn a_mac_is_unicast_local_and_stable() {
        assert_eq!(
            stable_mac("shop", "web", "default"),
            stable_mac("shop", "web", "default")
        );
        assert_ne!(
            stable_mac("shop", "web", "default"),
            stable_mac("shop", "web", "second")
        );
        assert!(stable_mac("a", "b", "c").starts_with("02:"));
    }

    #[test]
    fn the_shim_ends_before_the_kubelet_kills() {
        for (grace, shim) in [(5, 4), (10, 8), (60, 55), (3600, 3595)] {
            assert_eq!(shutdown_seconds(grace), shim);
        }
    }
}
