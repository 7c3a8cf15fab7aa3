//! The machine description: what the pod's annotation `coracle.dev/machine`
//! carries to the shim.
//!
//! Everything in it is resolved: sizes in bytes, paths inside the pod,
//! defaults filled in. It is versioned and strict: a field that a shim does
//! not know is an error, never ignored, because ignoring it would start a VM
//! other than the one that was asked for.

mod device;
mod source;
mod throttle;

use serde::{Deserialize, Serialize};

use crate::types::{
    Accelerator, Binding, CacheMode, DetectZeroes, DiscardMode, DiskBus, DiskType, ErrorPolicy,
    InterfaceModel, IoMode,
};

pub use device::Device;
pub use source::{CloudInitData, DiskSource};
pub use throttle::{Burst, Rate, Throttle};

/// The version this crate writes and reads.
pub const MACHINE_VERSION: u32 = 1;

/// A virtual machine, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Machine {
    /// [`MACHINE_VERSION`].
    pub version: u32,
    /// Name of the `VirtualMachine` object.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid, which becomes the SMBIOS system UUID: the same over restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The accelerator.
    pub accelerator: Accelerator,
    /// The virtual CPUs.
    pub cpu: Cpu,
    /// The guest's memory in bytes; a multiple of 1 MiB.
    pub memory_bytes: u64,
    /// What runs first.
    pub firmware: Firmware,
    /// The disks, in the manifest's order.
    pub disks: Vec<Disk>,
    /// The network cards, in the manifest's order.
    pub interfaces: Vec<Interface>,
    /// The node's devices for the guest, in the manifest's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// How long the guest may take to power off after it was asked to, in
    /// seconds. Shorter than the pod's grace period, so that qemu is ended by
    /// the shim and not by the kubelet.
    pub shutdown_seconds: u64,
}

/// The virtual CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cpu {
    /// Sockets, at least 1.
    pub sockets: u32,
    /// Cores per socket, at least 1.
    pub cores: u32,
    /// Threads per core, at least 1.
    pub threads: u32,
    /// qemu's `-cpu` model; without it `host` under KVM and `max` under
    /// emulation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Cpu {
    /// How many virtual CPUs the guest sees.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.sockets
            .saturating_mul(self.cores)
            .saturating_mul(self.threads)
    }
}

/// What the virtual CPU runs first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Firmware {
    /// SeaBIOS, which boots the disk with the lowest boot index.
    Bios {},
    /// A Linux kernel, loaded by qemu.
    Kernel {
        /// Path of the kernel in the pod.
        kernel: String,
        /// Path of the initial ram disk in the pod.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        initrd: Option<String>,
        /// The kernel's command line.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        cmdline: String,
    },
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Disk {
    /// Unique in the VM; a DNS label.
    pub name: String,
    /// Where its bytes are.
    pub source: DiskSource,
    /// How the guest sees it.
    pub bus: DiskBus,
    /// What the guest takes it for.
    #[serde(rename = "type", default, skip_serializing_if = "DiskType::is_disk")]
    pub disk_type: DiskType,
    /// Host page cache policy.
    pub cache: CacheMode,
    /// How I/O is submitted.
    pub io: IoMode,
    /// What becomes of discards.
    pub discard: DiscardMode,
    /// What becomes of runs of zeroes that the guest writes.
    #[serde(default, skip_serializing_if = "DetectZeroes::is_ignore")]
    pub detect_zeroes: DetectZeroes,
    /// What happens on errors.
    pub error_policy: ErrorPolicy,
    /// Whether the guest may only read.
    pub read_only: bool,
    /// Whether other VMs may have it open at the same time.
    pub shareable: bool,
    /// What the guest reads as serial number: 1 to 20 characters of
    /// `[A-Za-z0-9_.+-]`.
    pub serial: String,
    /// Place in the boot order, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_index: Option<u32>,
    /// Whether the disk has an I/O thread of its own.
    pub iothread: bool,
    /// virtio queues; without it as many as virtual CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<u16>,
    /// Sector sizes to show; without it the device's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<BlockSize>,
    /// The most it may do; without it whatever the device can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
}

impl Disk {
    /// A disk as a manifest without wishes has it.
    #[must_use]
    pub fn plain(name: &str, source: DiskSource) -> Self {
        Self {
            name: name.to_owned(),
            source,
            bus: DiskBus::default(),
            disk_type: DiskType::Disk,
            cache: CacheMode::default(),
            io: IoMode::default(),
            discard: DiscardMode::default(),
            detect_zeroes: DetectZeroes::Ignore,
            error_policy: ErrorPolicy::default(),
            read_only: false,
            shareable: false,
            serial: name.chars().take(20).collect(),
            boot_index: None,
            iothread: false,
            queues: None,
            block_size: None,
            throttle: None,
        }
    }
}

/// Sector sizes in bytes, powers of two from 512 to 32768.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
pub struct BlockSize {
    /// The unit of addressing.
    #[cfg_attr(feature = "kube", schemars(range(min = 512, max = 32768)))]
    pub logical: u32,
    /// The unit the device writes at once; at least `logical`.
    #[cfg_attr(feature = "kube", schemars(range(min = 512, max = 32768)))]
    pub physical: u32,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    /// Unique in the VM; a DNS label.
    pub name: String,
    /// How it reaches its network.
    pub binding: Binding,
    /// The card the guest sees.
    pub model: InterfaceModel,
    /// Six bytes in hexadecimal, with colons.
    pub mac_address: String,
}

/// Why a machine description was refused.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// It is of another version.
    #[error(
        "the machine description has version {found}, this shim reads version {MACHINE_VERSION}: \
         use the image of the controller's release"
    )]
    Version {
        /// The version it states.
        found: u32,
    },
    /// It is not JSON, lacks a field or has one too many.
    #[error("the machine description cannot be read")]
    Syntax {
        /// What serde says, with line and column.
        #[source]
        source: serde_json::Error,
    },
}

impl Machine {
    /// Reads a machine description.
    ///
    /// # Errors
    /// [`MachineError::Version`] before anything else, so that a newer
    /// description is called newer and not malformed.
    pub fn from_json(text: &str) -> Result<Self, MachineError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let syntax = |source| MachineError::Syntax { source };
        let Versioned { version } = serde_json::from_str(text).map_err(syntax)?;
        if version != MACHINE_VERSION {
            return Err(MachineError::Version { found: version });
        }
        serde_json::from_str(text).map_err(syntax)
    }

    /// The description as JSON on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a machine has string keys only")
    }

    /// `namespace/name`, as logs and the state report show it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Machine {
        Machine {
            version: MACHINE_VERSION,
            name: "web".into(),
            namespace: "shop".into(),
            uid: None,
            accelerator: Accelerator::Emulation,
            cpu: Cpu {
                sockets: 1,
                cores: 2,
                threads: 1,
                model: None,
            },
            memory_bytes: 256 << 20,
            firmware: Firmware::Bios {},
            disks: vec![Disk {
                name: "root".into(),
                source: DiskSource::Block {
                    path: "/dev/coracle/root".into(),
                },
                bus: DiskBus::Virtio,
                disk_type: DiskType::Disk,
                cache: CacheMode::None,
                io: IoMode::Auto,
                discard: DiscardMode::Unmap,
                detect_zeroes: DetectZeroes::Ignore,
                error_policy: ErrorPolicy::Stop,
                read_only: false,
                shareable: false,
                serial: "root".into(),
                boot_index: Some(1),
                iothread: false,
                queues: None,
                block_size: None,
                throttle: None,
            }],
            interfaces: vec![],
            devices: vec![],
            shutdown_seconds: 55,
        }
    }

    #[test]
    fn json_round_trip() {
        let machine = sample();
        assert_eq!(
            Machine::from_json(&machine.to_json()).expect("reads"),
            machine
        );
    }

    #[test]
    fn a_newer_version_is_called_newer_even_with_unknown_fields() {
        let text = sample()
            .to_json()
            .replace("\"version\":1", "\"version\":2,\"tpm\":true");
        assert!(matches!(
            Machine::from_json(&text),
            Err(MachineError::Version { found: 2 })
        ));
    }

    #[test]
    fn an_unknown_field_is_an_error_at_every_depth() {
        for (from, to) in [
            ("\"version\":1", "\"version\":1,\"tpm\":true"),
            ("\"sockets\":1", "\"sockets\":1,\"dies\":1"),
            ("\"kind\":\"Bios\"", "\"kind\":\"Bios\",\"logo\":1"),
            ("\"kind\":\"Block\"", "\"kind\":\"Block\",\"mode\":1"),
            ("\"serial\":", "\"wwn\":1,\"serial\":"),
        ] {
            let text = sample().to_json();
            let broken = text.replace(from, to);
            assert_ne!(text, broken);
            assert!(
                matches!(
                    Machine::from_json(&broken),
                    Err(MachineError::Syntax { .. })
                ),
                "{to}"
            );
        }
    }
}
