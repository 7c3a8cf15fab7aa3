//! What the shim says about its VM: the termination message the kubelet
//! picks up, and the answer to `coracle-shim state`.

use serde::{Deserialize, Serialize};

use crate::names::{TERMINATION_LOG_MAX, exit};

/// Why the VM ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TerminationReason {
    /// The guest powered itself off.
    GuestShutdown,
    /// The guest powered off after it was asked to stop.
    Stopped,
    /// The guest did not power off in time and was ended.
    Killed,
    /// The guest's kernel reported a panic.
    GuestPanicked,
    /// qemu ended by itself, with an error.
    QemuFailed,
    /// The accelerator could not go on with the guest (QMP `internal-error`).
    AcceleratorFailed,
    /// The machine description cannot be read or asks for the impossible.
    InvalidMachine,
    /// The machine description is of a version this shim does not know.
    UnsupportedVersion,
    /// A disk's device or file is not there.
    DiskNotFound,
    /// What is at a disk's path is not a disk.
    DiskInvalid,
    /// A disk is in use by something else.
    DiskBusy,
    /// The VM's user may not open a disk.
    DiskPermission,
    /// A disk is read-only, and the VM wants to write to it.
    DiskReadOnly,
    /// A disk that is to be filled holds data that no import wrote.
    DiskNotEmpty,
    /// A disk cannot be filled from its source, and trying again is of no use.
    ImportRefused,
    /// A disk could not be filled from its source this time.
    ImportFailed,
    /// `/dev/kvm` is missing or does not pass the probe.
    KvmUnavailable,
    /// There is less memory than the guest is to have.
    MemoryUnavailable,
    /// A device of the node that the VM is to have is not there, or not usable.
    DeviceUnavailable,
    /// The container may lock less memory than a device needs locked.
    MemoryLockTooLow,
    /// Something else of the host failed.
    HostFailed,
}

impl TerminationReason {
    /// The exit code that goes with the reason (see [`exit`]).
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::GuestShutdown | Self::Stopped | Self::Killed => exit::OK,
            Self::GuestPanicked
            | Self::QemuFailed
            | Self::AcceleratorFailed
            | Self::ImportFailed => exit::GUEST,
            Self::InvalidMachine
            | Self::UnsupportedVersion
            | Self::DiskNotEmpty
            | Self::ImportRefused => exit::CONFIG,
            Self::DiskNotFound
            | Self::DiskInvalid
            | Self::DiskBusy
            | Self::DiskPermission
            | Self::DiskReadOnly
            | Self::KvmUnavailable
            | Self::MemoryUnavailable
            | Self::DeviceUnavailable
            | Self::MemoryLockTooLow
            | Self::HostFailed => exit::HOST,
        }
    }
}

/// The JSON in the container's termination message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminationMessage {
    /// Why the VM ended.
    pub reason: TerminationReason,
    /// One sentence for a person: what, where and how to mend it.
    pub message: String,
    /// The disk it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
}

impl TerminationMessage {
    /// The message as JSON of at most [`TERMINATION_LOG_MAX`] bytes; the text
    /// is cut where it is longer, never the JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut message = self.clone();
        loop {
            let json = serde_json::to_string(&message).expect("strings serialize");
            let Some(excess) = json
                .len()
                .checked_sub(TERMINATION_LOG_MAX)
                .filter(|n| *n > 0)
            else {
                return json;
            };
            // One character of text can be six bytes of JSON; the loop ends
            // because each round takes at least one character away.
            let keep = message
                .message
                .chars()
                .count()
                .saturating_sub(excess.div_ceil(6) + 1);
            message.message = message.message.chars().take(keep).chain(['…']).collect();
            if keep == 0 {
                message.message.clear();
                message.disk = None;
            }
        }
    }
}

/// Where a VM is in its life cycle: the status values of the OCI runtime
/// specification (§State), with `paused` beside them as runc has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// qemu is being started.
    Creating,
    /// qemu is there, its virtual CPUs have not run yet.
    Created,
    /// The guest runs.
    Running,
    /// The virtual CPUs are stopped.
    Paused,
    /// qemu is gone.
    Stopped,
}

/// The answer to `coracle-shim state`, with the field names of the OCI
/// runtime specification (§State).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the OCI runtime specification the names are from.
    pub oci_version: String,
    /// The VM, as `namespace/name`.
    pub id: String,
    /// Where it is in its life cycle.
    pub status: Status,
    /// qemu's process id in the pod, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The directory the machine description was read from.
    pub bundle: String,
    /// Why it ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination: Option<TerminationMessage>,
    /// The disks, in the machine's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskState>,
}

/// A disk as the shim has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskState {
    /// Its name in the VM.
    pub name: String,
    /// Its path in the pod.
    pub path: String,
    /// Its size as the guest sees it.
    pub size_bytes: u64,
    /// The device's unit of addressing in bytes.
    pub logical_block_size: u32,
    /// The unit the device writes at once, in bytes.
    pub physical_block_size: u32,
    /// Whether the guest may only read.
    pub read_only: bool,
    /// What was decided for it, and why.
    #[serde(default)]
    pub decisions: Vec<Decision>,
    /// The last error that the device returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<DiskFault>,
    /// What happened to it that somebody should know of, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Something that was decided about a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The field of the manifest, or of qemu's options where there is none.
    pub setting: String,
    /// What it is.
    pub value: String,
    /// Why.
    pub why: String,
}

/// An error that a disk's device returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskFault {
    /// `read` or `write`.
    pub operation: String,
    /// What the host said.
    pub reason: String,
    /// Whether it is that space ran out.
    pub no_space: bool,
    /// Whether the guest was stopped on it.
    pub stopped: bool,
    /// How many there have been.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_and_stays_json() {
        for text in ["x".repeat(9000), "\u{1}".repeat(5000), "é".repeat(5000)] {
            let json = TerminationMessage {
                reason: TerminationReason::QemuFailed,
                message: text,
                disk: Some("root".into()),
            }
            .to_json();
            assert!(json.len() <= TERMINATION_LOG_MAX, "{} bytes", json.len());
            let back: TerminationMessage = serde_json::from_str(&json).expect("JSON");
            assert_eq!(back.reason, TerminationReason::QemuFailed);
            assert!(back.message.ends_with('…'));
        }
    }
}
