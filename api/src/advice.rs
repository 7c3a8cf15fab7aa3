//! What to do next, for every reason that a VM's conditions and its last
//! termination carry. The one place for these texts: `kubectl coracle
//! describe` prints them, and the operations guide repeats them.
//!
//! `NAME` stands for the VM, `POD` for its pod. Pure; a reason that is added
//! does not compile until there is advice for it.

use serde::de::DeserializeOwned;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};

use crate::report::TerminationReason;
use crate::vm::ConditionReason;

/// What to do about a reason. `None` when there is nothing to do, or when the
/// reason is of a newer version and says it in its own message.
#[must_use]
pub fn advice(reason: &str) -> Option<&'static str> {
    if let Some(reason) = parse::<TerminationReason>(reason) {
        return of_termination(reason);
    }
    if let Some(reason) = parse::<ConditionReason>(reason) {
        return of_condition(reason);
    }
    of_claim(reason)
}

fn parse<T: DeserializeOwned>(word: &str) -> Option<T> {
    let word: StrDeserializer<'_, Error> = word.into_deserializer();
    T::deserialize(word).ok()
}

/// What to do about the way in which a VM ended.
#[must_use]
#[expect(
    clippy::too_many_lines,
    reason = "a table with a row for each reason, which the compiler keeps complete"
)]
pub fn of_termination(reason: TerminationReason) -> Option<&'static str> {
    use TerminationReason as R;
    Some(match reason {
        R::Stopped => return None,
        R::GuestShutdown => {
            "the guest powered itself off; start it again with: kubectl coracle start NAME"
        }
        R::Killed => {
            "the guest did not power off in time: let it answer the ACPI power button, or raise \
             spec.terminationGracePeriodSeconds"
        }
        R::GuestPanicked => {
            "the guest's kernel panicked: read what came before with kubectl coracle logs \
             --previous NAME, and repair the guest"
        }
        R::QemuFailed => {
            "qemu ended with an error: read it with kubectl coracle logs --previous NAME"
        }
        R::AcceleratorFailed => {
            "KVM could not go on with the guest: look at the node's kernel log, try another \
             spec.cpuModel, or run the VM on another node"
        }
        R::InvalidMachine | R::UnsupportedVersion => {
            "controller and VM image do not fit together: install both from one release, then \
             kubectl coracle restart NAME"
        }
        R::DiskNotFound => {
            "the disk's volume has no device or file where it should be: correct the path of the \
             disk's image, or look at the events of POD and at the storage driver on its node"
        }
        R::DiskInvalid => {
            "what is in the disk's volume is no disk: correct the claim's volumeMode, the file \
             disk.img in it, or the disk's image"
        }
        R::DiskBusy => {
            "something else on the node uses the disk: find it (lsblk, fuser), or stop the other \
             VM; claims with access mode ReadWriteOncePod exclude this"
        }
        R::DiskPermission => {
            "the VM's user may not open the disk: name the device's group in \
             spec.podSecurity.supplementalGroups"
        }
        R::DiskReadOnly => {
            "the disk's device is read-only: set readOnly: true on the disk, or make the volume \
             writable"
        }
        R::DiskNotEmpty => {
            "nothing was written: give the disk an empty claim, or, if the VM is to have what is \
             in this one: kubectl annotate pvc CLAIM coracle.dev/imported=kept"
        }
        R::ImportRefused => {
            "the disk cannot be filled from its source as it is: correct the source, its checksum \
             or the size of the claim"
        }
        R::ImportFailed => {
            "the disk could not be filled this time and is tried again: see whether the source's \
             server is well, and what lies between it and the node"
        }
        R::KvmUnavailable => {
            "the node's /dev/kvm does not work: read the logs of the device plugin and the prober \
             in coracle-system, or set spec.accelerator: Emulation"
        }
        R::MemoryUnavailable => {
            "the pod has less memory than the guest is to have: lower spec.memory, or remove what \
             limits the pod (LimitRange, hugepages)"
        }
        R::DeviceUnavailable => {
            "the node's device is not what the VM can be given: read the logs of the device plugin \
             that advertises the resource; after a reboot of the node: kubectl coracle restart NAME"
        }
        R::MemoryLockTooLow => {
            "let the VM lock memory: the device plugin does so with deploy/components/memory-lock on \
             containerd 2; or else on the node LimitMEMLOCK=infinity in the unit of containerd, \
             default_ulimits = [\"memlock=-1:-1\"] of CRI-O; then kubectl coracle restart NAME"
        }
        R::HostFailed => "look at the events of POD and at its node",
    })
}

/// What to do about a condition.
#[must_use]
#[expect(
    clippy::too_many_lines,
    reason = "a table with a row for each reason, which the compiler keeps complete"
)]
pub fn of_condition(reason: ConditionReason) -> Option<&'static str> {
    use ConditionReason as R;
    Some(match reason {
        R::AsExpected
        | R::Starting
        | R::Importing
        | R::NoPod
        | R::Scheduling
        | R::WaitsForFirstConsumer
        | R::Expanding => return None,
        R::InvalidSpec => {
            "correct the fields that are named; kubectl coracle validate -f FILE checks a \
             manifest before it is applied"
        }
        R::ClaimNotBound => {
            "give the claim a volume: kubectl describe pvc says what its storage class waits for"
        }
        R::Paused => "let it go on with: kubectl coracle resume NAME",
        R::GuestNotRunning => {
            "a disk error or an internal error stopped the guest: mend its cause (kubectl coracle \
             logs NAME); after a disk error it goes on by itself, and kubectl exec POD -- \
             coracle-shim resume tries at once"
        }
        R::Stopping => {
            "wait; if it lasts, see whether the pod's node is alive: a node that is known to be \
             off gets the taint node.kubernetes.io/out-of-service"
        }
        R::NodeUnreachable => {
            "bring the node or its network back; a node that is known to be off gets the taint \
             node.kubernetes.io/out-of-service, and the VM starts elsewhere"
        }
        R::Halted => "start it with: kubectl coracle start NAME",
        R::Unschedulable => {
            "ask for less in spec.cpus and spec.memory, loosen nodeSelector, affinity or \
             tolerations, or add a node"
        }
        R::KvmUnavailable => {
            "no node offers a /dev/kvm that works: read the logs of the device plugin and the \
             prober in coracle-system, or set spec.accelerator: Emulation"
        }
        R::DeviceNotOffered => {
            "see on which nodes the resource is (kubectl describe nodes), correct its name in \
             spec.devices, or stop what has the devices"
        }
        R::PodSecurityRefused => {
            "let the namespace allow what the message names (label \
             pod-security.kubernetes.io/enforce=restricted suffices), or take it out of the VM"
        }
        R::QuotaExceeded => {
            "raise the namespace's ResourceQuota, ask for less in spec.memory or spec.cpus, or \
             stop another VM"
        }
        R::ImageVolumesUnsupported => {
            "upgrade the cluster to Kubernetes 1.36 or newer, or replace the disk with one whose \
             claim is filled from the image (claim.from.image)"
        }
        R::PodRefused => "correct the fields that are named, or the admission policy that refuses",
        R::PodNameTaken => {
            "a pod that is not the VM's has the name that its next pod needs: delete or rename it"
        }
        R::PreviousPodNotEnded => {
            "see whether the pod's node is alive: once it is back, or known to be off and tainted \
             node.kubernetes.io/out-of-service, the VM starts again by itself"
        }
        R::PodRejected => {
            "the node refused or evicted the pod: look at the events of POD and at what the node \
             is short of"
        }
        R::PodLost => {
            "somebody deleted the pod; to stop a VM use kubectl coracle stop NAME, to start it \
             again kubectl coracle start NAME"
        }
        R::OutOfMemory => {
            "the container used more memory than its limit: report the VM's size and devices, and \
             meanwhile raise spec.memory"
        }
        R::ContainerFailed => "look at the events of POD, and at kubectl coracle logs NAME",
        R::ImageChanged => {
            "the guest runs on, in the image of an earlier release; move it to the new one when it \
             suits, with: kubectl coracle restart NAME"
        }
        R::ImagePullFailed => {
            "push the image to where the message says that it is named, give the namespace's service \
             account default an imagePullSecret, or load the image into the node"
        }
        R::ContainerNotCreated => {
            "create what the message names: most often the Secret of a disk's \
             cloudInit.userDataFrom"
        }
        R::LimitRangeExceeded => {
            "stay within what kubectl describe limitrange shows (spec.memory, spec.cpus, \
             claimTemplate.size), or change the LimitRange"
        }
        R::StorageClassNotFound => {
            "create the storage class, or a claim with one that kubectl get storageclass lists"
        }
        R::ClaimRefused => "correct the fields of the disk's claimTemplate that are named",
        R::ExpansionForbidden => {
            "set allowVolumeExpansion: true on the storage class if its driver can expand \
             volumes, or copy the data to a larger claim"
        }
        R::SpecChanged => "apply what has changed with: kubectl coracle restart NAME",
    })
}

/// What to do about a claim that cannot be used.
fn of_claim(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "ClaimNotFound" => "create the claim, or correct its name in spec.disks",
        "ClaimNotMade" => "wait: the controller makes the claim of a claimTemplate",
        "ClaimNotOwned" => {
            "the claim is there and is not this disk's: rename the disk, or hand the claim over \
             with the labels coracle.dev/vm and coracle.dev/disk"
        }
        "ClaimBeingDeleted" => {
            "the claim is being deleted and waits for its users: use another claim, or wait and \
             create it anew"
        }
        "ClaimLost" => "the claim's volume is gone: restore it from a backup into a new claim",
        "AccessModeForbidsWrite" => {
            "the claim may only be read: set readOnly: true on the disk, or use a claim with \
             ReadWriteOnce"
        }
        "AccessModeForbidsSharing" => {
            "only a claim with access mode ReadWriteMany can be shared: take shareable from the \
             disk, or use such a claim"
        }
        "ClaimInUse" => {
            "stop the VM or pod that holds the claim, or use another claim; the VM starts by \
             itself once it is free"
        }
        "VolumeModeUnknown" => "set the claim's volumeMode to Block or Filesystem",
        "ClaimCapacityUnknown" => "wait until the claim's volume reports its capacity",
        "ClaimTooSmall" => "use a larger claim, or expand this one",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_found_by_their_words() {
        let panicked = advice("GuestPanicked").expect("advice");
        assert!(panicked.contains("logs --previous NAME"), "{panicked}");
        let halted = advice("Halted").expect("advice");
        assert!(halted.contains("start NAME"), "{halted}");
        assert!(advice("ClaimInUse").is_some());
        for nothing in ["AsExpected", "Stopped", "OfTomorrow", ""] {
            assert_eq!(advice(nothing), None, "{nothing}");
        }
    }
}
