//! `kubectl coracle start`, `stop`, `restart`, `pause`, `resume`: one patch of
//! the VM each, of fields that plain kubectl can set as well.
//!
//! `stop` sets the run policy to `Halted` and notes the old one in the
//! annotation `coracle.dev/run-policy`; `start` puts it back, and takes
//! `Always` when nothing is noted. What is so already is not asked for again.

use coracle_api::names::{ANNOTATION_DESIRED, ANNOTATION_RESTART, ANNOTATION_RUN_POLICY};
use coracle_api::vm::{Phase, RunPolicy, VirtualMachine};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::age;
use super::args::PowerArgs;
use super::connect::Cluster;
use super::error::{Doing, PluginError, VMS};
use super::facts::{annotation, is_to_be_paused, phase};
use super::wait::{self, Goal};
use crate::progress::say;

/// How often a patch is made again because the VM has changed meanwhile.
const ATTEMPTS: usize = 5;

/// What is asked of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Run.
    Start,
    /// Power off, and stay off.
    Stop,
    /// Power off and run anew.
    Restart,
    /// Stop the virtual CPUs.
    Pause,
    /// Let them go on.
    Resume,
}

/// What that takes.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// It is so, or on its way.
    Already {
        /// What is told.
        said: String,
        /// What `--wait` waits for.
        goal: Goal,
    },
    /// A change of the VM.
    Patch {
        /// A merge patch.
        patch: Value,
        /// What is told.
        said: String,
        /// What `--wait` waits for.
        goal: Goal,
    },
    /// It makes no sense.
    Refuse(String),
}

/// Asks it of every VM; goes on after a failure, and fails then.
pub(super) async fn power(
    cluster: &Cluster,
    action: Action,
    args: &PowerArgs,
) -> Result<(), PluginError> {
    let mut goals = Vec::new();
    let mut failed = None;
    for name in &args.vms {
        match ask(cluster, action, name).await {
            Ok(goal) => goals.push((name, goal)),
            Err(error) => note(&mut failed, error),
        }
    }
    if args.wait {
        for (name, goal) in goals {
            if let Err(error) = wait::wait(cluster, name, &goal, args.timeout).await {
                note(&mut failed, error);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Keeps the last error for the end and tells the one before.
fn note(failed: &mut Option<PluginError>, error: PluginError) {
    if let Some(earlier) = failed.replace(error) {
        say(&format!("error: {}", crate::devices::chain(&earlier)));
    }
}

async fn ask(cluster: &Cluster, action: Action, name: &str) -> Result<Goal, PluginError> {
    let doing = Doing::new("patch", VMS).within(&cluster.namespace).on(name);
    for attempt in 1.. {
        let vm = cluster.vm(name).await?;
        let (mut patch, said, goal) = match step(&vm, action, &age::now().to_string()) {
            Step::Already { said, goal } => {
                say(&said);
                return Ok(goal);
            }
            Step::Refuse(said) => return Err(PluginError::said(said)),
            Step::Patch { patch, said, goal } => (patch, said, goal),
        };
        // The step is right for the VM as it was read, and for no other.
        patch["metadata"]["resourceVersion"] = json!(vm.metadata.resource_version);
        let parameters = PatchParams {
            field_manager: Some(super::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = cluster
            .vms()
            .patch(name, &parameters, &Patch::Merge(&patch))
            .await;
        match patched {
            Ok(vm) => {
                say(&said);
                return Ok(goal.at(vm.metadata.generation));
            }
            Err(kube::Error::Api(status)) if status.is_conflict() && attempt < ATTEMPTS => {}
            Err(error) => return Err(doing.failed(error)),
        }
    }
    unreachable!("the last attempt returns")
}

/// What an action takes, for a VM as it is. `stamp` is a text that was never
/// used before.
pub(super) fn step(vm: &VirtualMachine, action: Action, stamp: &str) -> Step {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    match action {
        Action::Start => start(vm, name, stamp),
        Action::Stop => stop(vm, name),
        Action::Restart => restart(vm, name, stamp),
        Action::Pause => pause(vm, name),
        Action::Resume => resume(vm, name),
    }
}

fn is_halted(vm: &VirtualMachine) -> bool {
    vm.spec.run_policy == RunPolicy::Halted
}

fn has_ended(vm: &VirtualMachine) -> bool {
    matches!(phase(vm), Some(Phase::Stopped | Phase::Failed))
}

fn start(vm: &VirtualMachine, name: &str, stamp: &str) -> Step {
    if is_halted(vm) {
        let policy = former_policy(vm);
        return Step::Patch {
            patch: json!({
                "metadata": {"annotations": {
                    (ANNOTATION_RUN_POLICY): null,
                    (ANNOTATION_DESIRED): null,
                }},
                "spec": {"runPolicy": policy},
            }),
            said: format!("{name}: starts, with run policy {policy:?}"),
            goal: Goal::running(),
        };
    }
    if has_ended(vm) {
        return Step::Patch {
            patch: restart_patch(stamp),
            said: format!("{name}: starts again"),
            goal: Goal::restarted(stamp),
        };
    }
    if is_to_be_paused(vm) {
        return Step::Already {
            said: format!(
                "{name}: is started, and paused; kubectl coracle resume {name} lets it go on"
            ),
            goal: Goal::paused(),
        };
    }
    let how = phase(vm).map_or_else(String::new, |phase| format!(" ({phase:?})"));
    Step::Already {
        said: format!("{name}: is started already{how}"),
        goal: Goal::running(),
    }
}

/// The run policy that `stop` has noted.
fn former_policy(vm: &VirtualMachine) -> RunPolicy {
    let noted = annotation(vm, ANNOTATION_RUN_POLICY).unwrap_or_default();
    let policy = serde_json::from_value(json!(noted)).unwrap_or_default();
    match policy {
        // Nobody who starts a VM wants it halted.
        RunPolicy::Halted => RunPolicy::default(),
        policy => policy,
    }
}

/// A new pod, whose guest runs: whoever restarts a paused VM wants it to.
fn restart_patch(stamp: &str) -> Value {
    json!({"metadata": {"annotations": {
        (ANNOTATION_RESTART): stamp,
        (ANNOTATION_DESIRED): null,
    }}})
}

fn stop(vm: &VirtualMachine, name: &str) -> Step {
    if is_halted(vm) {
        return Step::Already {
            said: format!("{name}: is halted already"),
            goal: Goal::stopped(),
        };
    }
    let policy = vm.spec.run_policy;
    let how = if has_ended(vm) {
        "stays off"
    } else {
        "powers off"
    };
    Step::Patch {
        patch: json!({
            "metadata": {"annotations": {(ANNOTATION_RUN_POLICY): policy}},
            "spec": {"runPolicy": RunPolicy::Halted},
        }),
        said: format!(
            "{name}: {how}; kubectl coracle start {name} starts it with run policy {policy:?} again"
        ),
        goal: Goal::stopped(),
    }
}

fn restart(vm: &VirtualMachine, name: &str, stamp: &str) -> Step {
    if is_halted(vm) {
        return Step::Refuse(halted(name));
    }
    Step::Patch {
        patch: restart_patch(stamp),
        said: format!("{name}: restarts in a new pod"),
        goal: Goal::restarted(stamp),
    }
}

fn halted(name: &str) -> String {
    format!("{name} is halted: start it with kubectl coracle start {name}")
}

fn pause(vm: &VirtualMachine, name: &str) -> Step {
    if is_halted(vm) {
        return Step::Refuse(halted(name));
    }
    if has_ended(vm) {
        return Step::Refuse(format!(
            "{name} does not run ({}): there is nothing to pause",
            phase(vm).map_or_else(String::new, |phase| format!("{phase:?}"))
        ));
    }
    if is_to_be_paused(vm) {
        return Step::Already {
            said: format!("{name}: is paused already"),
            goal: Goal::paused(),
        };
    }
    Step::Patch {
        patch: json!({"metadata": {"annotations": {(ANNOTATION_DESIRED): "Paused"}}}),
        said: format!("{name}: pauses"),
        goal: Goal::paused(),
    }
}

fn resume(vm: &VirtualMachine, name: &str) -> Step {
    if is_halted(vm) {
        return Step::Refuse(halted(name));
    }
    if !is_to_be_paused(vm) {
        return Step::Already {
            said: format!("{name}: is not paused"),
            goal: Goal::running(),
        };
    }
    Step::Patch {
        patch: json!({"metadata": {"annotations": {(ANNOTATION_DESIRED): "Running"}}}),
        said: format!("{name}: goes on"),
        goal: Goal::running(),
    }
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
