use serde_json::{Value, json};

use super::*;
use crate::cluster::facts::{Import, ImportState};
use crate::cluster::testing::{at, ended, over, running, seen, settings, vm};

/// What is decided, in a word that a table can hold.
fn word_of(decision: &Decision) -> String {
    let act = match &decision.act {
        Act::Nothing => "nothing".to_owned(),
        Act::Create(pod) => format!("create {}", pod.metadata.name.clone().unwrap_or_default()),
        Act::Delete(pod, reason) => format!("delete {} {reason:?}", pod.name),
        Act::Claims(acts) => format!("claims {}", acts.len()),
        Act::SetDesired(pod, desired) => format!("set {} {desired}", pod.name),
    };
    let stage = match &decision.stage {
        Stage::Deleting => "deleting".to_owned(),
        Stage::Halted => "halted".to_owned(),
        Stage::Refused(_) => "refused".to_owned(),
        Stage::Creating => "creating".to_owned(),
        Stage::Live(_) => "live".to_owned(),
        Stage::Leaving(_) => "leaving".to_owned(),
        Stage::Over { again: None, .. } => "over".to_owned(),
        Stage::Over { again: Some(_), .. } => "over, again".to_owned(),
    };
    format!("{act}; {stage}")
}

fn decided(change: Value, pods: Vec<PodFacts>, now: i64) -> String {
    word_of(&decide(&seen(vm(change), pods), &settings(), at(now)))
}

fn policy(policy: &str) -> Value {
    json!({"spec": {"runPolicy": policy}})
}

/// The same VM with a status that tells of an end.
fn told(mut change: Value, last: &Termination) -> Value {
    change["status"] = json!({"phase": "Failed", "incarnation": last.incarnation,
                              "podName": "web-1", "lastTermination": last});
    change
}

fn leaving_pod(pod: PodFacts) -> PodFacts {
    PodFacts {
        deleting: true,
        ..pod
    }
}

#[test]
fn a_pod_that_lives_is_left_alone_unless_something_else_is_wanted() {
    let restart = json!({"metadata": {"annotations": {"coracle.dev/restart": "1"}}});
    let pause = json!({"metadata": {"annotations": {"coracle.dev/desired": "Paused"}}});
    let nonsense = json!({"metadata": {"annotations": {"coracle.dev/desired": "Flying"}}});
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let mut served = running(1);
    served.carried.restart = Some("1".into());
    let table = [
        (policy("Always"), running(1), "nothing; live"),
        (policy("Halted"), running(1), "delete web-1 Halted; leaving"),
        (restart.clone(), running(1), "delete web-1 Restart; leaving"),
        (restart, served, "nothing; live"),
        (pause, running(1), "set web-1 Paused; live"),
        (nonsense, running(1), "nothing; live"),
        (going, running(1), "nothing; deleting"),
        (
            policy("Always"),
            leaving_pod(running(1)),
            "nothing; leaving",
        ),
        (
            policy("Halted"),
            leaving_pod(running(1)),
            "nothing; leaving",
        ),
    ];
    for (change, pod, wanted) in table {
        assert_eq!(decided(change.clone(), vec![pod], 200), wanted, "{change}");
    }
}

#[test]
fn what_follows_an_end_is_a_matter_of_policy_and_cause() {
    let rejected = ("PodRejected", None);
    let off = ("GuestShutdown", Some(0));
    let asked = ("Stopped", Some(0));
    let crash = ("QemuFailed", Some(1));
    let config = ("InvalidMachine", Some(2));
    let host = ("KvmUnavailable", Some(3));
    let replaced = "delete web-1 Replaced; over, again";
    let table = [
        ("Always", off, replaced),
        ("Always", asked, replaced),
        ("Always", crash, replaced),
        ("Always", config, "nothing; over"),
        ("Always", host, replaced),
        ("Always", rejected, replaced),
        ("OnFailure", off, "nothing; over"),
        ("OnFailure", asked, replaced),
        ("OnFailure", crash, replaced),
        ("OnFailure", config, "nothing; over"),
        ("OnFailure", host, replaced),
        ("Once", off, "nothing; over"),
        ("Once", asked, "nothing; over"),
        ("Once", crash, "nothing; over"),
        ("Once", host, "nothing; over"),
        // It never ran at all.
        ("Once", rejected, replaced),
        ("Halted", crash, "delete web-1 Halted; halted"),
    ];
    for (run, (reason, code), wanted) in table {
        // Long after every pause.
        let pods = vec![over(1, reason, code)];
        let change = told(policy(run), &ended(1, reason, code));
        assert_eq!(decided(change, pods, 100_000), wanted, "{run} {reason}");
    }
}

#[test]
fn a_wrong_manifest_is_tried_again_when_it_changes_or_a_restart_is_asked_for() {
    let pods = || vec![over(1, "InvalidMachine", Some(2))];
    let changed = json!({"metadata": {"generation": 2}});
    let restart = json!({"metadata": {"annotations": {"coracle.dev/restart": "1"}}});
    for change in [changed, restart] {
        let change = told(change, &ended(1, "InvalidMachine", Some(2)));
        let wanted = "delete web-1 Replaced; over, again";
        assert_eq!(decided(change.clone(), pods(), 200), wanted, "{change}");
    }
}

#[test]
fn an_ended_pod_that_cannot_be_removed_does_not_keep_the_next_from_starting() {
    // A finalizer holds the object; its containers have provably ended.
    let pods = vec![leaving_pod(over(3, "Stopped", Some(0)))];
    let change = told(policy("Always"), &ended(3, "Stopped", Some(0)));
    assert_eq!(decided(change, pods, 200), "create web-4; creating");
}

#[test]
fn an_ended_pod_stays_until_the_status_tells_how_it_ended() {
    let pods = vec![over(1, "KvmUnavailable", Some(3))];
    assert_eq!(
        decided(policy("Always"), pods, 100_000),
        "nothing; over, again"
    );
}

#[test]
fn a_pod_without_proof_of_its_end_blocks() {
    let unproven = PodFacts {
        life: Life::Unproven,
        ..running(1)
    };
    for run in ["Always", "Halted", "Once"] {
        let pods = vec![unproven.clone()];
        assert_eq!(decided(policy(run), pods, 200), "nothing; leaving", "{run}");
    }
    // Also when a later one ended.
    let pods = vec![leaving_pod(running(1)), over(2, "Stopped", Some(0))];
    assert_eq!(decided(policy("Always"), pods, 200), "nothing; leaving");
}

#[test]
fn an_earlier_pod_that_lives_is_a_stray() {
    let pods = vec![running(1), running(2)];
    assert_eq!(
        decided(policy("Always"), pods, 200),
        "delete web-1 Stray; live"
    );
}

#[test]
fn pauses_double_up_to_five_minutes() {
    let failed = |failures: u32, now: i64| {
        let last = serde_json::to_value(ended(1, "KvmUnavailable", Some(3))).expect("JSON");
        let status = json!({"phase": "Failed", "incarnation": 1, "podName": "web-1",
                            "failures": failures, "lastTermination": last});
        let change = json!({"status": status});
        decided(change, vec![over(1, "KvmUnavailable", Some(3))], now)
    };
    for (failures, pause) in [(1, 10), (2, 20), (3, 40), (6, 300), (60, 300)] {
        // It ended at 100.
        assert_eq!(
            failed(failures, 99 + pause),
            "nothing; over, again",
            "{failures}"
        );
        let due = failed(failures, 100 + pause);
        assert_eq!(due, "delete web-1 Replaced; over, again", "{failures}");
    }
}

#[test]
fn without_a_pod_the_status_says_what_came_before() {
    let with = |status: Value, run: &str| json!({"spec": {"runPolicy": run}, "status": status});
    let off = serde_json::to_value(ended(4, "GuestShutdown", Some(0))).expect("JSON");
    let ran = |last: Value| json!({"incarnation": 4, "podName": "web-4", "lastTermination": last});
    let table = [
        (with(json!({}), "Always"), "create web-1; creating"),
        (with(json!({}), "Halted"), "nothing; halted"),
        (with(ran(Value::Null), "Always"), "create web-5; creating"),
        (
            with(ran(Value::Null), "OnFailure"),
            "create web-5; creating",
        ),
        (with(ran(Value::Null), "Once"), "nothing; over"),
        (with(ran(off.clone()), "OnFailure"), "nothing; over"),
        (with(ran(off.clone()), "Once"), "nothing; over"),
        (with(ran(off.clone()), "Always"), "create web-5; creating"),
        // Halted since: the pod's name is gone, the number is not.
        (
            with(json!({"incarnation": 4, "lastTermination": off}), "Once"),
            "create web-5; creating",
        ),
    ];
    for (change, wanted) in table {
        assert_eq!(decided(change.clone(), vec![], 200), wanted, "{change}");
    }
}

#[test]
fn a_missing_claim_is_a_refusal_that_is_looked_at_again() {
    let change = json!({"spec": {"disks": [{"name": "root", "claim": {"name": "none"}}]}});
    let decision = decide(&seen(vm(change), vec![]), &settings(), at(0));
    assert_eq!(word_of(&decision), "nothing; refused");
    assert_eq!(decision.recheck, Some(RECHECK));
}

/// What was decided of a VM whose pods fill its disk, with this annotation on
/// the claim.
fn filling(change: Value, pods: Vec<PodFacts>, annotation: Option<&str>, now: i64) -> Decision {
    let from = json!({"http": {"url": "https://a.example/d"}});
    let mut vm = vm(change);
    let disks = json!([{"name": "root", "claim": {"name": "r", "from": from}}]);
    vm.spec.disks = serde_json::from_value(disks).expect("disks");
    let mut seen = seen(vm, pods);
    let claim = json!({
        "metadata": {"name": "r", "uid": "c", "resourceVersion": "7",
                     "annotations": annotation.map(|text| json!({"coracle.dev/imported": text}))},
        "spec": {"volumeMode": "Block", "accessModes": ["ReadWriteOnce"]},
        "status": {"phase": "Bound"}
    });
    let claim = serde_json::from_value(claim).expect("a claim");
    seen.observed.claims.insert("r".into(), claim);
    decide(&seen, &settings(), at(now))
}

fn with_import(state: ImportState, pod: PodFacts) -> PodFacts {
    let import = Import {
        disk: "root".into(),
        claim: "r".into(),
        from: "https://a.example/d".into(),
        state,
    };
    PodFacts {
        imports: vec![import],
        ..pod
    }
}

#[test]
fn what_was_filled_is_noted_before_its_witness_goes() {
    let done = |pod| vec![with_import(ImportState::Done, pod)];
    let crash = || told(policy("Always"), &ended(1, "QemuFailed", Some(1)));
    let halted = policy("Halted");
    for (change, pods, wanted) in [
        (policy("Always"), done(running(1)), "live"),
        (crash(), done(over(1, "QemuFailed", Some(1))), "over, again"),
        (halted.clone(), done(leaving_pod(running(1))), "leaving"),
    ] {
        let decision = filling(change.clone(), pods.clone(), None, 100_000);
        let Act::Claims(acts) = &decision.act else {
            panic!("{wanted}: {:?}", decision.act);
        };
        let patch = json!({"metadata": {"uid": "c", "resourceVersion": "7",
                           "annotations": {"coracle.dev/imported": "https://a.example/d"}}});
        let claim = "r".to_owned();
        assert_eq!(acts[..], [ClaimAct::Change { claim, patch }]);
        let noted = word_of(&filling(change, pods, Some("x"), 100_000));
        assert!(
            noted.ends_with(wanted) && !noted.contains("claim"),
            "{noted}"
        );
    }
    // A guest that is to stop does not wait for a claim's change.
    let stops = filling(halted, done(running(1)), None, 100);
    assert_eq!(word_of(&stops), "delete web-1 Halted; leaving");
    for state in [
        ImportState::Running,
        ImportState::Failed(Box::new(ended(1, "x", Some(1)))),
    ] {
        let pods = vec![with_import(state, running(1))];
        assert_eq!(
            word_of(&filling(policy("Always"), pods, None, 100)),
            "nothing; live"
        );
    }
}

#[test]
fn a_disk_that_was_refused_is_tried_again_when_its_claim_counts_as_filled() {
    let end = ended(1, "DiskNotEmpty", Some(2));
    let pod = || {
        let state = ImportState::Failed(Box::new(end.clone()));
        vec![with_import(state, over(1, "DiskNotEmpty", Some(2)))]
    };
    let change = || told(policy("Always"), &end);
    assert_eq!(
        word_of(&filling(change(), pod(), None, 100_000)),
        "nothing; over"
    );
    assert_eq!(
        word_of(&filling(change(), pod(), Some("kept"), 200)),
        "delete web-1 Replaced; over, again"
    );
}

#[test]
fn a_disk_that_could_not_be_filled_is_tried_again_whatever_the_policy() {
    let end = ended(1, "ImportFailed", Some(1));
    for run in ["Always", "OnFailure", "Once"] {
        let pods = vec![over(1, "ImportFailed", Some(1))];
        let change = told(policy(run), &end);
        assert_eq!(
            word_of(&filling(change, pods, None, 100_000)),
            "delete web-1 Replaced; over, again",
            "{run}"
        );
    }
}
