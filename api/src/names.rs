//! Names, paths and numbers that more than one part uses.

/// API group of the custom resources, and prefix of labels and annotations.
pub const GROUP: &str = "coracle.dev";
/// Served version of the API group.
pub const VERSION: &str = "v1alpha1";

/// Label on a VM's pod and claims: the name of the VM.
pub const LABEL_VM: &str = "coracle.dev/vm";
/// Label on a claim made for a VM: the name of the disk.
pub const LABEL_DISK: &str = "coracle.dev/disk";
/// Annotation on a VM's pod: the machine description, as JSON.
pub const ANNOTATION_MACHINE: &str = "coracle.dev/machine";
/// Annotation on a VM and on its pod: the wanted state, `Running` or
/// `Paused`. The controller copies it from the one to the other.
pub const ANNOTATION_DESIRED: &str = "coracle.dev/desired";
/// Annotation on a VM: any new value, usually a timestamp, restarts it. On
/// its pod: the value that the pod was made with.
pub const ANNOTATION_RESTART: &str = "coracle.dev/restart";
/// Annotation on a VM that was halted by `kubectl coracle stop`: the run
/// policy that `kubectl coracle start` gives it back.
pub const ANNOTATION_RUN_POLICY: &str = "coracle.dev/run-policy";
/// Annotation on a VM's pod: the image and the spec it was made from, as JSON.
pub const ANNOTATION_APPLIED: &str = "coracle.dev/applied";
/// Annotation on a VM's pod: the generation of the spec it was made from.
pub const ANNOTATION_GENERATION: &str = "coracle.dev/generation";
/// Annotation on a claim: what it was filled with. As long as it is there, the
/// claim is not filled again, whatever a disk says.
pub const ANNOTATION_IMPORTED: &str = "coracle.dev/imported";

/// Extended resource that stands for a usable `/dev/kvm`.
pub const RESOURCE_KVM: &str = "coracle.dev/kvm";
/// Extended resource of which each node has one: the place of the prober that
/// tells the device plugin whether `/dev/kvm` is usable.
pub const RESOURCE_KVM_PROBE: &str = "coracle.dev/kvm-probe";

/// Extended resource that stands for `/dev/net/tun`.
pub const RESOURCE_TUN: &str = "coracle.dev/tun";
/// Extended resource that stands for `/dev/vhost-net`.
pub const RESOURCE_VHOST_NET: &str = "coracle.dev/vhost-net";
/// Extended resource that stands for `/dev/vhost-vsock`.
pub const RESOURCE_VHOST_VSOCK: &str = "coracle.dev/vhost-vsock";

/// The container with the guest.
pub const CONTAINER: &str = "vm";
/// Prefix of the init containers that fill disks, before the disk's name.
pub const IMPORT_CONTAINER: &str = "import-";
/// User and group id of the VM container; qemu's on most distributions.
pub const VM_UID: i64 = 107;
/// Group id of `disk` on Debian, Ubuntu, Fedora and RHEL: the group udev
/// gives block devices (0660), and so what lets [`VM_UID`] open a raw block
/// volume on a stock node.
pub const DISK_GID: i64 = 6;

/// Where the downwardAPI volume with the two annotations is mounted.
pub const CONFIG_DIR: &str = "/etc/coracle";
/// File name of the machine description in [`CONFIG_DIR`].
pub const MACHINE_FILE: &str = "machine.json";
/// File name of the wanted state in [`CONFIG_DIR`].
pub const DESIRED_FILE: &str = "desired";
/// The shim's runtime directory: sockets, seeds. An emptyDir in memory.
pub const RUN_DIR: &str = "/run/coracle";
/// Raw block claims appear here, each under its disk's name.
pub const BLOCK_DIR: &str = "/dev/coracle";
/// Filesystem claims are mounted here, each under its disk's name.
pub const DISK_DIR: &str = "/var/lib/coracle/disks";
/// Name of the disk image in a filesystem claim.
pub const DISK_IMAGE: &str = "disk.img";
/// Ephemeral disks, and the overlays of disks in container images, live here,
/// each in an emptyDir under its disk's name.
pub const EPHEMERAL_DIR: &str = "/var/lib/coracle/ephemeral";
/// Container images with disks are mounted here, each under its disk's name.
pub const IMAGE_DIR: &str = "/var/lib/coracle/images";
/// Secrets with cloud-init data are mounted here, each under its disk's name.
pub const CLOUD_INIT_DIR: &str = "/var/lib/coracle/cloud-init";
/// The claim that holds a kernel for direct boot is mounted here.
pub const KERNEL_DIR: &str = "/var/lib/coracle/kernel";
/// Where the importers note which disks they filled: an emptyDir, so that one
/// that the kubelet runs again, after a reboot say, leaves its disk alone.
pub const IMPORT_DIR: &str = "/var/lib/coracle/imports";
/// Raw block claims that disks are filled from appear here to the importer,
/// each under the filled disk's name.
pub const FROM_BLOCK_DIR: &str = "/dev/coracle-from";
/// The same for filesystem claims.
pub const FROM_DIR: &str = "/var/lib/coracle/from";
/// Where the kubelet reads a container's termination message.
pub const TERMINATION_LOG: &str = "/dev/termination-log";
/// The most the kubelet keeps of a termination message, in bytes.
pub const TERMINATION_LOG_MAX: usize = 4096;

/// Environment variable that the device plugin sets in a container which was
/// given a KVM slot: how far the shim's own probe must get (`open`, `run`,
/// `kernel`).
pub const ENV_KVM_PROBE: &str = "CORACLE_KVM_PROBE";

/// Exit codes of the shim, and so of the `vm` container.
pub mod exit {
    /// The guest powered itself off, or was asked to stop.
    pub const OK: u8 = 0;
    /// The guest crashed, or qemu failed.
    pub const GUEST: u8 = 1;
    /// The machine description or the command line is wrong.
    pub const CONFIG: u8 = 2;
    /// A device or permission of the host is missing.
    pub const HOST: u8 = 3;
}
