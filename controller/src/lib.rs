//! Maps a `VirtualMachine` to the pod that runs it, and keeps every VM of a
//! cluster at what its object says.
//!
//! [`pod()`] is pure: what it needs to know of the cluster comes in as
//! [`Observed`], and the same pod comes out for a cluster and for one machine.
//! It never talks to an API server, and a VM that it accepts is complete:
//! after [`plan::VmPlan::new`] nothing can fail. The module `cluster` (feature
//! of the same name) is the controller around it.
//!
//! What the controller needs to be allowed, and why:
//!
//! | verb | on | for |
//! |---|---|---|
//! | get, list, watch | virtualmachines | what is wanted; read past the cache before a pod is created |
//! | patch | virtualmachines/status | what came of it |
//! | update | virtualmachines/finalizers | owner references that block deletion, where that is checked |
//! | get, list, watch | pods | how VMs fare, and who uses a claim |
//! | create, delete, patch | pods | start and stop VMs, pause them |
//! | list, watch | persistentvolumeclaims | whether disks can be used |
//! | create, patch | persistentvolumeclaims | make and grow those of `claimTemplate`s; note on any that it was filled |
//! | list, watch | persistentvolumes, storageclasses, csidrivers | what stands behind a claim |
//! | create, patch | events (events.k8s.io) | what `kubectl describe` shows |
//! | create, get, update | leases, in its own namespace | who leads |
//!
//! It deletes no claim, and has no right to: those that go with their VM are
//! the garbage collector's.

use k8s_openapi::api::core::v1::Pod;

use coracle_api::vm::VirtualMachine;

pub mod applied;
#[cfg(feature = "cluster")]
pub mod args;
#[cfg(feature = "cluster")]
pub mod cluster;
mod digest;
pub mod import;
pub mod machine;
pub mod overhead;
pub mod plan;
pub mod pod;
#[cfg(feature = "cluster")]
mod run;
pub mod template;

pub use plan::{Observed, Refusal};
#[cfg(feature = "cluster")]
pub use run::run;

/// What the administrator decides, for all VMs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Reference of the VM image (shim, qemu, firmware).
    pub image: String,
    /// Reference of the image that fills disks.
    pub importer: String,
    /// How the node learns when to start the container again.
    pub restarts: Restarts,
}

/// How the kubelet is told when to start the `vm` container again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restarts {
    /// Rules by exit code (`ContainerRestartRules`, on since Kubernetes 1.35):
    /// a crash restarts in place, a wrong configuration ends the pod.
    ByExitCode,
    /// The pod's `restartPolicy`, for older servers.
    ByPod,
}

/// The pod for `vm`'s `incarnation`, or why there can be none.
pub fn pod(
    vm: &VirtualMachine,
    incarnation: u64,
    observed: &Observed,
    settings: &Settings,
) -> Result<Pod, Refusal> {
    let plan = plan::VmPlan::new(vm, incarnation, observed)?;
    let machine = machine::machine(&plan);
    Ok(pod::build(&plan, &machine, settings))
}
