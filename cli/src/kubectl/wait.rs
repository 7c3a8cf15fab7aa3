//! `--wait`: what a VM is to become, and watching until it is.

use std::pin::pin;
use std::time::Duration;

use coracle_api::vm::{ConditionType, Phase, VirtualMachine, VirtualMachineStatus};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use tokio_stream::StreamExt as _;

use super::connect::Cluster;
use super::error::{Doing, PluginError, VMS};
use super::facts::{advise, condition};
use crate::progress::say;

/// What a VM is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Goal {
    phase: Phase,
    /// The restart that must have been served.
    restart: Option<String>,
    /// An older status than of this generation does not count.
    generation: Option<i64>,
}

impl Goal {
    fn of(phase: Phase) -> Self {
        Self {
            phase,
            restart: None,
            generation: None,
        }
    }

    /// The guest runs.
    pub(super) fn running() -> Self {
        Self::of(Phase::Running)
    }

    /// The guest is paused.
    pub(super) fn paused() -> Self {
        Self::of(Phase::Paused)
    }

    /// The VM is off.
    pub(super) fn stopped() -> Self {
        Self::of(Phase::Stopped)
    }

    /// The guest runs in a pod that was made after this restart was asked for.
    pub(super) fn restarted(stamp: &str) -> Self {
        Self {
            restart: Some(stamp.to_owned()),
            ..Self::running()
        }
    }

    /// Of the spec of this generation.
    pub(super) fn at(self, generation: Option<i64>) -> Self {
        Self { generation, ..self }
    }
}

/// How far a VM is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    NotYet,
    /// It will not get there by itself.
    Never(String),
}

fn verdict(goal: &Goal, vm: Option<&VirtualMachine>) -> Verdict {
    let Some(vm) = vm else {
        return Verdict::Never("it was deleted".to_owned());
    };
    let Some(status) = &vm.status else {
        return Verdict::NotYet;
    };
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let served = goal.restart.is_none() || goal.restart == status.served_restart;
    if !served || status.observed_generation < goal.generation {
        return Verdict::NotYet;
    }
    match status.phase {
        Some(phase) if phase == goal.phase => Verdict::Reached,
        // A crash is tried again; what a person must mend is not.
        Some(Phase::Failed) if goal.phase != Phase::Stopped => Verdict::Never(told(name, status)),
        Some(Phase::Stopped) => Verdict::Never(told(name, status)),
        _ => Verdict::NotYet,
    }
}

/// Why it is as it is, and what to do.
fn told(name: &str, status: &VirtualMachineStatus) -> String {
    let phase = status.phase.map_or_else(
        || "the controller has not looked at it".to_owned(),
        |phase| format!("{phase:?}"),
    );
    let Some(ready) = condition(status, ConditionType::Ready) else {
        return phase;
    };
    let advice = advise(&ready.reason, name, status.pod_name.as_deref());
    let advice = advice.map_or_else(String::new, |text| format!("\n  {text}"));
    format!("{phase}, {}: {}{advice}", ready.reason, ready.message)
}

/// Waits.
pub(super) async fn wait(
    cluster: &Cluster,
    name: &str,
    goal: &Goal,
    patience: Duration,
) -> Result<(), PluginError> {
    let mut last = None;
    let waited = tokio::time::timeout(patience, watch(cluster, name, goal, &mut last)).await;
    let Err(_) = waited else {
        return waited.unwrap_or(Ok(()));
    };
    let status: Option<VirtualMachineStatus> = last.and_then(|vm: VirtualMachine| vm.status);
    let how = told(name, &status.unwrap_or_default());
    Err(PluginError::said(format!(
        "{name} is not {:?} after {} s; it is {}",
        goal.phase,
        patience.as_secs(),
        how
    )))
}

async fn watch(
    cluster: &Cluster,
    name: &str,
    goal: &Goal,
    last: &mut Option<VirtualMachine>,
) -> Result<(), PluginError> {
    let doing = Doing::new("watch", VMS).within(&cluster.namespace).on(name);
    let mut seen = pin!(watch_object(cluster.vms(), name).default_backoff());
    while let Some(event) = seen.next().await {
        let vm = match event {
            Ok(vm) => vm,
            Err(error) => {
                if let Some(answer) = final_answer(error) {
                    return Err(doing.failed(answer));
                }
                continue;
            }
        };
        match verdict(goal, vm.as_ref()) {
            Verdict::Reached => {
                say(&format!("{name}: {:?}", goal.phase));
                return Ok(());
            }
            Verdict::Never(why) => {
                return Err(PluginError::said(format!(
                    "{name} does not get to be {:?}: {}",
                    goal.phase, why
                )));
            }
            Verdict::NotYet => *last = vm,
        }
    }
    Ok(())
}

/// The error that no second attempt would mend; an API server that is away
/// comes back.
fn final_answer(error: watcher::Error) -> Option<kube::Error> {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) =
        error
    else {
        return None;
    };
    let last = matches!(&error, kube::Error::Api(status) if [401, 403, 404].contains(&status.code));
    last.then_some(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::testing::{running, vm};

    fn in_phase(phase: Phase) -> VirtualMachine {
        let mut vm = running("web");
        if let Some(status) = &mut vm.status {
            status.phase = Some(phase);
        }
        vm
    }

    #[test]
    fn a_goal_is_reached_in_its_phase_only() {
        use Verdict::{NotYet, Reached};
        for (goal, phase, wanted) in [
            (Goal::running(), Phase::Starting, NotYet),
            (Goal::running(), Phase::Running, Reached),
            (Goal::running(), Phase::Pending, NotYet),
            (Goal::paused(), Phase::Running, NotYet),
            (Goal::paused(), Phase::Paused, Reached),
            (Goal::stopped(), Phase::Stopping, NotYet),
            (Goal::stopped(), Phase::Stopped, Reached),
            (Goal::stopped(), Phase::Failed, NotYet),
        ] {
            let vm = in_phase(phase);
            assert_eq!(verdict(&goal, Some(&vm)), wanted, "{goal:?} {phase:?}");
        }
        assert_eq!(verdict(&Goal::running(), Some(&vm("web"))), NotYet);
    }

    #[test]
    fn an_old_status_counts_for_nothing() {
        let vm = running("web");
        assert_eq!(
            verdict(&Goal::running().at(Some(1)), Some(&vm)),
            Verdict::Reached
        );
        assert_eq!(
            verdict(&Goal::running().at(Some(2)), Some(&vm)),
            Verdict::NotYet
        );
        assert_eq!(verdict(&Goal::restarted("now"), Some(&vm)), Verdict::NotYet);
    }

    #[test]
    fn a_vm_that_fails_or_goes_away_ends_the_wait_with_advice() {
        let mut failed = in_phase(Phase::Failed);
        if let Some(status) = &mut failed.status {
            status.conditions[0].reason = "DiskBusy".to_owned();
            status.conditions[0].message = "disk \"root\" is in use".to_owned();
        }
        let Verdict::Never(why) = verdict(&Goal::running(), Some(&failed)) else {
            panic!("it waits on");
        };
        assert!(
            why.starts_with("Failed, DiskBusy: disk \"root\" is in use\n"),
            "{why}"
        );
        assert!(why.contains("lsblk"), "{why}");
        let gone = verdict(&Goal::stopped(), None);
        assert_eq!(gone, Verdict::Never("it was deleted".to_owned()));
    }
}
