use coracle_api::vm::{ConditionType, RunPolicy, VirtualMachine};
use serde_json::json;

use super::*;
use crate::applied::Applied;
use crate::cluster::decide::decide;
use crate::cluster::facts::{Import, ImportState, Life, PodFacts, word};
use crate::cluster::testing::{at, over, running, seen, settings, vm};

mod reasons;

/// The status of a VM with these pods, when nothing goes wrong.
fn made(vm: VirtualMachine, pods: Vec<PodFacts>) -> VirtualMachineStatus {
    let (seen, settings) = (seen(vm, pods), settings());
    let decision = decide(&seen, &settings, at(200));
    let sources = Sources {
        seen: &seen,
        decision: &decision,
        outcome: &Outcome::Done,
        settings: &settings,
        now: at(200),
    };
    status(&sources).expect("a VM that stays")
}

fn scheduling() -> PodFacts {
    PodFacts {
        node: None,
        ip: None,
        scheduled_at: None,
        container: Container::Unknown,
        ..running(1)
    }
}

fn starting() -> PodFacts {
    PodFacts {
        container: Container::Waiting {
            reason: "ContainerCreating".into(),
            message: String::new(),
        },
        ..running(1)
    }
}

const PATIENCE: SignedDuration = SignedDuration::from_secs(5);

#[test]
fn a_status_made_twice_is_the_same() {
    let first = made(vm(json!({})), vec![running(1)]);
    let mut again = vm(json!({}));
    again.status = Some(first.clone());
    let second = made(again, vec![running(1)]);
    assert_eq!(first, second);
    let due = due(
        Some(&first),
        second,
        Some(at(200).duration_since(at(0))),
        PATIENCE,
    );
    assert_eq!(due, Due::Nothing);
}

#[test]
fn steps_on_the_way_wait_for_the_next_and_news_do_not() {
    let age = Some(SignedDuration::from_secs(1));
    let first = made(vm(json!({})), vec![scheduling()]);
    let next = made(vm(json!({})), vec![starting()]);
    assert_eq!(next.phase, Some(Phase::Starting));
    let later = due(Some(&first), next.clone(), age, PATIENCE);
    assert_eq!(later, Due::Later(SignedDuration::from_secs(4)));
    // It took too long after all.
    let long = due(Some(&first), next, Some(PATIENCE), PATIENCE);
    assert!(matches!(long, Due::Write(_)));
    let mut full = scheduling();
    full.unschedulable = Some("0/1 nodes are available: 1 Insufficient memory.".into());
    for news in [
        vec![running(1)],
        vec![full],
        vec![over(1, "QemuFailed", Some(1))],
    ] {
        let news = made(vm(json!({})), news);
        assert!(matches!(
            due(Some(&first), news, age, PATIENCE),
            Due::Write(_)
        ));
    }
    assert!(matches!(due(None, first, age, PATIENCE), Due::Write(_)));
}

#[test]
fn phases_that_no_write_was_spent_on_have_their_times() {
    let status = made(vm(json!({})), vec![running(1)]);
    let times: Vec<(Phase, Timestamp)> = status
        .phase_transitions
        .iter()
        .map(|t| (t.phase, t.at.0))
        .collect();
    let wanted = [
        (Phase::Scheduling, at(0)),
        (Phase::Starting, at(1)),
        (Phase::Running, at(3)),
    ];
    assert_eq!(times, wanted);
}

#[test]
fn the_phase_of_a_pod() {
    let still = |desired: &str| {
        let mut pod = running(1);
        pod.carried.desired = desired.into();
        pod.container = Container::Running {
            since: at(2),
            ready: None,
        };
        pod
    };
    let asked = |desired: &str| {
        let mut pod = running(1);
        pod.carried.desired = desired.into();
        pod
    };
    let ran = json!({"status": {"incarnation": 1, "phase": "Running"}});
    let was_paused = json!({"status": {"incarnation": 1, "phase": "Paused"}});
    let paused = json!({"metadata": {"annotations": {"coracle.dev/desired": "Paused"}}});
    let table = [
        (json!({}), scheduling(), Phase::Scheduling, "Scheduling"),
        (json!({}), starting(), Phase::Starting, "Starting"),
        (json!({}), still("Running"), Phase::Starting, "Starting"),
        (json!({}), running(1), Phase::Running, "AsExpected"),
        (paused.clone(), still("Paused"), Phase::Paused, "Paused"),
        (ran, still("Running"), Phase::Running, "GuestNotRunning"),
        // Before the node has shown the guest what is wanted of it, and after.
        (paused, asked("Paused"), Phase::Running, "AsExpected"),
        (
            was_paused.clone(),
            still("Running"),
            Phase::Paused,
            "Paused",
        ),
        (was_paused, running(1), Phase::Running, "AsExpected"),
        (
            json!({}),
            over(1, "InvalidMachine", Some(2)),
            Phase::Failed,
            "InvalidMachine",
        ),
        (
            json!({"spec": {"runPolicy": "Once"}}),
            over(1, "GuestShutdown", Some(0)),
            Phase::Stopped,
            "GuestShutdown",
        ),
    ];
    for (change, pod, phase, reason) in table {
        let status = made(vm(change), vec![pod]);
        let ready = condition(&status, ConditionType::Ready).expect("it is there");
        assert_eq!(
            (status.phase, ready.reason.as_str()),
            (Some(phase), reason),
            "{}",
            ready.message
        );
    }
}

#[test]
fn of_a_guest_on_a_node_that_does_not_answer_nothing_is_known() {
    let mut pod = running(1);
    pod.unreachable = true;
    let status = made(vm(json!({})), vec![pod]);
    let ready = condition(&status, ConditionType::Ready).expect("it is there");
    assert_eq!(status.phase, Some(Phase::Running));
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("Unknown", "NodeUnreachable")
    );
    assert!(
        ready.message.contains("out-of-service"),
        "{}",
        ready.message
    );
}

#[test]
fn a_condition_keeps_its_time_while_it_does_not_turn() {
    let first = made(vm(json!({})), vec![running(1)]);
    let mut old = vm(json!({}));
    let mut earlier = first;
    for condition in &mut earlier.conditions {
        condition.last_transition_time = Time(at(7));
        condition.message = "in other words".into();
    }
    old.status = Some(earlier);
    let status = made(old, vec![running(1)]);
    for condition in &status.conditions {
        assert_eq!(
            condition.last_transition_time,
            Time(at(7)),
            "{}",
            condition.type_
        );
        assert_ne!(condition.message, "in other words");
    }
}

#[test]
fn a_vm_restarted_in_place_says_why() {
    let mut pod = starting();
    pod.last_crash = over(1, "GuestPanicked", Some(1)).termination().cloned();
    let status = made(vm(json!({})), vec![pod]);
    assert_eq!(status.phase, Some(Phase::Starting));
    let ready = condition(&status, ConditionType::Ready).expect("it is there");
    assert_eq!(ready.reason, "GuestPanicked");
    let last = status.last_termination.expect("how it ended");
    assert_eq!(
        (last.reason.as_str(), last.exit_code),
        ("GuestPanicked", Some(1))
    );
}

#[test]
fn a_disk_that_is_being_filled_says_so() {
    let import = |state| PodFacts {
        imports: vec![Import {
            disk: "root".into(),
            claim: "r".into(),
            from: "https://a.example/d".into(),
            state,
        }],
        container: Container::Waiting {
            reason: "PodInitializing".into(),
            message: String::new(),
        },
        ..running(1)
    };
    let failed = over(1, "ImportFailed", Some(1)).termination().cloned();
    let waiting = |reason: &str| ImportState::Waiting {
        reason: reason.into(),
        message: "why".into(),
        image: "a.example/importer".into(),
    };
    for (state, reason, says) in [
        (
            ImportState::Running,
            "Importing",
            "logs web-1 -c import-root",
        ),
        (
            ImportState::Failed(Box::new(failed.expect("it ended"))),
            "ImportFailed",
            "not filled from https://a.example/d: why; the node tries again",
        ),
        (
            waiting("ErrImagePull"),
            "ImagePullFailed",
            "--importer-image",
        ),
        (waiting("PodInitializing"), "Starting", "web-1"),
        (ImportState::Done, "Starting", "web-1"),
    ] {
        let disks = match state {
            ImportState::Done => "AsExpected",
            _ => reason,
        };
        let status = made(vm(json!({})), vec![import(state)]);
        assert_eq!(status.phase, Some(Phase::Starting));
        let ready = condition(&status, ConditionType::Ready).expect("it is there");
        assert_eq!(ready.reason, reason, "{}", ready.message);
        assert!(ready.message.contains(says), "{}", ready.message);
        let ready = condition(&status, ConditionType::DisksReady).expect("it is there");
        assert_eq!(ready.reason, disks, "{}", ready.message);
    }
}

#[test]
fn a_disk_in_an_image_is_told_of_and_so_is_what_keeps_the_node_from_it() {
    let disks = json!([{"name": "root", "image": {"reference": "a.example/vm:1"}},
                       {"name": "seed", "cloudInit": {"userData": "#"}}]);
    let waits = |message: &str| {
        let waiting = PodFacts {
            container: Container::Waiting {
                reason: "ImagePullBackOff".into(),
                message: message.into(),
            },
            ..running(1)
        };
        made(vm(json!({"spec": {"disks": disks}})), vec![waiting])
    };
    let status = waits("Back-off pulling image \"a.example/vm:1\": not found");
    assert_eq!(status.disks.len(), 1);
    assert_eq!(status.disks[0].image.as_deref(), Some("a.example/vm:1"));
    assert_eq!(status.disks[0].claim, "");
    let ready = condition(&status, ConditionType::Ready).expect("it is there");
    assert_eq!(ready.reason, "ImagePullFailed");
    let says = "cannot fetch image a.example/vm:1: Back-off pulling image \"a.example/vm:1\": not \
                found. It is named by spec.disks[root].image";
    assert!(ready.message.contains(says), "{}", ready.message);

    let status = waits("Back-off pulling image \"a.example/other:1\"");
    let ready = condition(&status, ConditionType::Ready).expect("it is there");
    assert!(
        ready.message.contains("named by the controller's --image"),
        "{}",
        ready.message
    );
}

#[test]
fn another_source_of_a_claim_that_was_filled_needs_no_restart() {
    let disk = |url: &str| {
        json!([{"name": "root", "claim": {"name": "r",
                                   "from": {"http": {"url": url}}}}])
    };
    let mut of = vm(json!({"metadata": {"generation": 2}}));
    of.spec.disks = serde_json::from_value(disk("https://a.example/new")).expect("disks");
    let mut spec = of.spec.clone();
    spec.disks = serde_json::from_value(disk("https://a.example/old")).expect("disks");
    let mut pod = running(1);
    pod.carried.applied = Some(Applied::new(&spec, &settings().image).to_json().into());
    let required = |imported: bool| {
        let mut seen = seen(of.clone(), vec![pod.clone()]);
        let claim = json!({"metadata": {"name": "r", "annotations":
            imported.then(|| json!({"coracle.dev/imported": "https://a.example/old"}))}});
        let claim = serde_json::from_value(claim).expect("a claim");
        seen.observed.claims.insert("r".into(), claim);
        let decision = decide(&seen, &settings(), at(200));
        let sources = Sources {
            seen: &seen,
            decision: &decision,
            outcome: &Outcome::Done,
            settings: &settings(),
            now: at(200),
        };
        let status = status(&sources).expect("a VM that stays");
        let required = condition(&status, ConditionType::RestartRequired).expect("it is there");
        (
            required.reason.clone(),
            status.disks[0].imported_from.clone(),
        )
    };
    assert_eq!(required(false), ("SpecChanged".into(), None));
    let from = Some("https://a.example/old".into());
    assert_eq!(required(true), ("AsExpected".into(), from));
}
