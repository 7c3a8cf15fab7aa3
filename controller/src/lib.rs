//! Maps a `VirtualMachine` to the pod that runs it.
//!
//! [`pod()`] is pure: what it needs to know of the cluster comes in as
//! [`Observed`], and the same pod comes out for a cluster and for one machine.
//! It never talks to an API server, and a VM that it accepts is complete:
//! after [`plan::VmPlan::new`] nothing can fail.

use k8s_openapi::api::core::v1::Pod;

use coracle_api::vm::VirtualMachine;

pub mod machine;
pub mod overhead;
pub mod plan;
pub mod pod;

pub use plan::{Observed, Refusal};

/// What the administrator decides, for all VMs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Reference of the VM image (shim, qemu, firmware).
    pub image: String,
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
