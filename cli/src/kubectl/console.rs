//! `kubectl coracle console`: `coracle-shim console` in the VM's pod, on our
//! terminal, and again when the VM starts anew.
//!
//! ```text
//!  look ──▶ join ──▶ the user leaves: done
//!   ▲         └────▶ it ended: say so, look again
//!   └── wait, while the VM starts ──▶ it will not: done
//! ```

use std::time::Duration;

use coracle_api::vm::{ConditionType, Phase, RunPolicy, VirtualMachine};
use k8s_openapi::api::core::v1::Pod;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::connect::Cluster;
use super::error::{Doing, PluginError};
use super::facts::{advise, condition, container, phase, running_container};
use crate::console::Shown;
use crate::terminal::{self, Kept};

mod keys;
mod session;

use keys::Keys;
use session::{End, Session};

/// How often is looked whether the VM runs again.
const POLL: Duration = Duration::from_millis(300);

/// How often a container may refuse a console before that is an error: for some
/// seconds.
const REFUSALS: u32 = 20;

/// Where the console is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In this container of this pod.
    At {
        pod: String,
        container: String,
        /// Whether the kubelet has found the guest running: then the shim
        /// listens.
        ready: bool,
    },
    /// Not there yet; why.
    Wait(String),
    /// It will not be there; why.
    Over(String),
}

fn place(vm: &VirtualMachine, pod: Option<&Pod>) -> Place {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    if let Some(pod) = pod
        && let Some(id) = running_container(pod)
    {
        return Place::At {
            pod: pod.metadata.name.clone().unwrap_or_default(),
            container: id.to_owned(),
            ready: container(pod).is_some_and(|container| container.ready),
        };
    }
    let status = vm.status.clone().unwrap_or_default();
    let ready = condition(&status, ConditionType::Ready);
    let why = ready.map_or_else(String::new, |ready| format!(": {}", ready.message));
    if is_over(vm) {
        let advice =
            ready.and_then(|ready| advise(&ready.reason, name, status.pod_name.as_deref()));
        let advice = advice.map_or_else(String::new, |text| format!("; {text}"));
        return Place::Over(format!("{name} does not run{why}{advice}"));
    }
    match phase(vm) {
        Some(phase @ (Phase::Pending | Phase::Scheduling | Phase::Failed)) => {
            Place::Wait(format!("{name} is {phase:?}{why}"))
        }
        _ => Place::Wait(format!("{name} is about to run")),
    }
}

/// Whether the VM stays off until somebody asks for it.
fn is_over(vm: &VirtualMachine) -> bool {
    let last = vm
        .status
        .as_ref()
        .and_then(|status| status.last_termination.as_ref());
    let code = last.and_then(|last| last.exit_code);
    match (phase(vm), vm.spec.run_policy) {
        (Some(Phase::Stopped), _) | (Some(Phase::Failed), RunPolicy::Once | RunPolicy::Halted) => {
            true
        }
        (Some(Phase::Failed), _) => code == Some(i32::from(coracle_api::names::exit::CONFIG)),
        _ => false,
    }
}

/// Joins the console until the user leaves it or the VM has ended for good.
pub(super) async fn console(cluster: &Cluster, name: &str) -> Result<(), PluginError> {
    let first = look(cluster, name).await?;
    if let Place::Over(why) = first {
        return Err(PluginError::said(why));
    }
    let interrupted = |error: std::io::Error| PluginError::said(format!("no terminal: {error}"));
    let terminal = if terminal::is_interactive() {
        let kept = terminal::keep().map_err(interrupted)?;
        kept.raw().map_err(interrupted)?;
        Some(kept)
    } else {
        None
    };
    let mut joining = Joining {
        cluster,
        name,
        terminal,
        keys: Keys::read(),
        ends: Ends::listen().map_err(interrupted)?,
        told: String::new(),
        joined: None,
        refused: Refusals::default(),
    };
    joining.run().await
}

async fn look(cluster: &Cluster, name: &str) -> Result<Place, PluginError> {
    let vm = cluster.vm(name).await?;
    let pod = match vm
        .status
        .as_ref()
        .and_then(|status| status.pod_name.as_deref())
    {
        Some(pod) => {
            let doing = Doing::new("get", "pods").within(&cluster.namespace).on(pod);
            let found = cluster.pods().get_opt(pod).await;
            found.map_err(|error| doing.failed(error))?
        }
        None => None,
    };
    Ok(place(&vm, pod.as_ref()))
}

/// The signals that end the process otherwise: the window was closed.
struct Ends {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.hangup.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// How often a container did not let us join.
#[derive(Debug, Default)]
struct Refusals {
    container: String,
    times: u32,
}

impl Refusals {
    /// Whether an error says that the container ends just now: its pod's status
    /// tells of that later than the kubelet knows. One whose console was there and
    /// has ended does; another may have been refused for good.
    fn pass(&mut self, container: &str, was_joined: bool, error: &PluginError) -> bool {
        if !matches!(
            error,
            PluginError::Refused { .. } | PluginError::NotFound { .. }
        ) {
            return false;
        }
        if self.container != container {
            container.clone_into(&mut self.container);
            self.times = 0;
        }
        self.times += 1;
        was_joined || self.times <= REFUSALS
    }
}

struct Joining<'a> {
    cluster: &'a Cluster,
    name: &'a str,
    terminal: Option<Kept>,
    keys: Keys,
    ends: Ends,
    /// What was said last.
    told: String,
    /// The container that was joined last, and what it showed last.
    joined: Option<(String, Shown)>,
    refused: Refusals,
}

impl Joining<'_> {
    async fn run(&mut self) -> Result<(), PluginError> {
        loop {
            match look(self.cluster, self.name).await {
                Ok(Place::At {
                    pod,
                    container,
                    ready,
                }) => {
                    if (ready || session::listens(self.cluster, &pod).await)
                        && self.join(&pod, &container).await? == End::Left
                    {
                        return Ok(());
                    }
                }
                Ok(Place::Wait(why)) => self.tell(&why),
                Ok(Place::Over(why)) => {
                    self.tell(&why);
                    return Ok(());
                }
                // What is away for a moment was there before.
                Err(error @ PluginError::Unreachable { .. }) if self.joined.is_some() => {
                    self.tell(&crate::devices::chain(&error));
                }
                Err(error) => return Err(error),
            }
            if self.leaves().await {
                return Ok(());
            }
        }
    }

    /// One session, until the user has left for good or there is nothing to join
    /// any more.
    async fn join(&mut self, pod: &str, container: &str) -> Result<End, PluginError> {
        let joined = self.joined.as_ref();
        let known = joined.filter(|(known, _)| known == container);
        let shown = known.map_or_else(|| Shown::watching(None), |(_, shown)| shown.clone());
        let is_known = known.is_some();
        let opened = Session::open(self.cluster, pod, self.terminal.is_some(), shown).await;
        let mut session = match opened {
            Ok(session) => session,
            Err(error) if self.refused.pass(container, is_known, &error) => return Ok(End::Ended),
            Err(error) => return Err(error),
        };
        self.told.clear();
        let end = session.pump(&mut self.keys, self.ends.any()).await;
        self.joined = Some((container.to_owned(), session.shown));
        if self.terminal.is_none() {
            return Ok(End::Left);
        }
        if end == End::Ended {
            self.tell(&format!(
                "the console of {pod} has ended; waiting for the next"
            ));
        }
        Ok(end)
    }

    /// A pause, in which the user may leave.
    async fn leaves(&mut self) -> bool {
        let pause = tokio::time::sleep(POLL);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return false,
                () = self.ends.any() => return true,
                // Without a terminal what is typed is for the guest.
                typed = self.keys.next(), if self.terminal.is_some() => {
                    if typed.is_none_or(|typed| keys::escape(&typed).is_some()) {
                        return true;
                    }
                }
            }
        }
    }

    /// Says something, once, between what the guest shows.
    fn tell(&mut self, what: &str) {
        if self.told == what {
            return;
        }
        what.clone_into(&mut self.told);
        let line = if self.terminal.is_some() {
            format!("\r\n[coracle: {what}; Ctrl-] leaves]\r\n")
        } else {
            format!("coracle: {what}\n")
        };
        let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubectl::testing::{running, vm};

    fn pod(state: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web-3"},
            "status": {"containerStatuses": [{
                "name": "vm", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
                "containerID": "containerd://abc", "state": state,
            }]},
        }))
        .expect("a pod")
    }

    fn ended(policy: RunPolicy, phase: Phase, code: i32) -> VirtualMachine {
        let mut vm = running("web");
        vm.spec.run_policy = policy;
        let status = vm.status.get_or_insert_default();
        status.phase = Some(phase);
        status.last_termination = Some(
            serde_json::from_value(json!({
                "reason": "GuestShutdown", "message": "the guest powered off",
                "exitCode": code, "at": "2026-01-01T00:01:00Z",
            }))
            .expect("a termination"),
        );
        vm
    }

    #[test]
    fn a_running_container_is_joined_and_a_starting_one_waited_for() {
        let runs = pod(&json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}));
        let at = place(&running("web"), Some(&runs));
        assert!(matches!(at, Place::At { ready: true, .. }), "{at:?}");
        let crashed = pod(&json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        for pod in [Some(&crashed), None] {
            let wait = place(&running("web"), pod);
            assert_eq!(wait, Place::Wait("web is about to run".to_owned()));
        }
        assert!(matches!(place(&vm("web"), None), Place::Wait(_)));
    }

    #[test]
    fn what_stays_off_is_not_waited_for() {
        for (policy, phase, code, over) in [
            (RunPolicy::Once, Phase::Stopped, 0, true),
            (RunPolicy::Halted, Phase::Stopped, 0, true),
            (RunPolicy::Once, Phase::Failed, 1, true),
            (RunPolicy::Always, Phase::Failed, 2, true),
            (RunPolicy::Always, Phase::Failed, 3, false),
            (RunPolicy::Always, Phase::Stopping, 0, false),
        ] {
            let vm = ended(policy, phase, code);
            let is = matches!(place(&vm, None), Place::Over(_));
            assert_eq!(is, over, "{policy:?} {phase:?} {code}");
        }
    }

    #[test]
    fn a_container_that_ends_may_refuse_and_another_some_times_only() {
        let mut refusals = Refusals::default();
        let refused = PluginError::Refused {
            what: "create pods/exec \"web-1\"".to_owned(),
            said: "container not found (\"vm\")".to_owned(),
        };
        for _ in 0..REFUSALS {
            assert!(refusals.pass("abc", false, &refused));
        }
        assert!(!refusals.pass("abc", false, &refused));
        assert!(refusals.pass("abc", true, &refused));
        assert!(refusals.pass("def", false, &refused));
        assert!(!refusals.pass("def", true, &PluginError::Unauthorized));
    }
}
