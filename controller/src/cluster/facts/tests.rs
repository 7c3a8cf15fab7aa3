use serde_json::{Value, json};

use super::*;
use crate::cluster::packed::Packer;
use crate::cluster::testing::pod;

/// The facts of pod `web-3` with this status.
fn facts(status: &Value) -> PodFacts {
    let object = json!({
        "metadata": {"name": "web-3", "uid": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "vm"}], "nodeName": "node1"},
        "status": status
    });
    kept(PodFacts::of(&pod(object), "web").expect("a pod of the VM"))
}

/// The facts as the index keeps them, which must be as they were.
fn kept(facts: PodFacts) -> PodFacts {
    let thawed = Packer::default().freeze(&facts).thaw();
    assert_eq!(thawed.as_ref(), Some(&facts));
    facts
}

fn vm_container(state: &Value) -> Value {
    json!([{"name": "vm", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": state}])
}

fn terminated(code: i32, message: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": "Error", "message": message,
                          "finishedAt": "2026-01-01T00:01:00Z"}})
}

#[test]
fn a_number_after_the_name_is_an_incarnation_and_nothing_else_is() {
    assert_eq!(incarnation("web-12", "web"), Some(12));
    for name in [
        "web", "web-", "web-0", "web-01", "web-1x", "web-x-1", "web2-1", "other-1", "web--1",
    ] {
        assert_eq!(incarnation(name, "web"), None, "{name}");
    }
}

/// What a pod's status proves of its end.
fn proofs() -> Vec<(&'static str, Value, &'static str)> {
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:30Z"}});
    let by_gc =
        json!([{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}]);
    let evicted = json!([{"type": "DisruptionTarget", "status": "True",
                          "reason": "EvictionByEvictionAPI"}]);
    vec![
        (
            "running",
            json!({"phase": "Running", "containerStatuses": vm_container(&running)}),
            "alive",
        ),
        ("nothing known", json!({}), "alive"),
        (
            "between two starts",
            json!({"phase": "Running", "containerStatuses": vm_container(&terminated(1, ""))}),
            "alive",
        ),
        (
            "said to have failed, running",
            json!({"phase": "Failed", "containerStatuses": vm_container(&running)}),
            "unproven",
        ),
        (
            "said to have failed by the garbage collector",
            json!({"phase": "Failed", "conditions": by_gc, "containerStatuses": vm_container(&terminated(0, ""))}),
            "unproven",
        ),
        (
            "the same without containers",
            json!({"phase": "Failed", "conditions": by_gc}),
            "unproven",
        ),
        (
            "succeeded without containers",
            json!({"phase": "Succeeded"}),
            "unproven",
        ),
        (
            "drained",
            json!({"phase": "Failed", "conditions": evicted, "containerStatuses": vm_container(&terminated(0, ""))}),
            "ended",
        ),
        (
            "ended",
            json!({"phase": "Succeeded", "containerStatuses": vm_container(&terminated(0, ""))}),
            "ended",
        ),
        (
            "refused by the kubelet",
            json!({"phase": "Failed", "reason": "UnexpectedAdmissionError"}),
            "ended",
        ),
    ]
}

#[test]
fn an_end_must_be_proven() {
    for (name, status, wanted) in proofs() {
        let life = match facts(&status).life {
            Life::Alive => "alive",
            Life::Unproven => "unproven",
            Life::Ended(_) => "ended",
        };
        assert_eq!(life, wanted, "{name}");
    }
}

#[test]
fn what_the_shim_said_is_why_it_ended() {
    let said = r#"{"reason":"DiskBusy","message":"disk \"root\" is in use","disk":"root"}"#;
    let status =
        json!({"phase": "Failed", "containerStatuses": vm_container(&terminated(3, said))});
    let end = facts(&status).termination().cloned().expect("it ended");
    assert_eq!((end.reason.as_str(), end.exit_code), ("DiskBusy", Some(3)));
    assert_eq!(end.message, "disk \"root\" is in use");
    assert_eq!(Cause::of(&end), Cause::Host);
    assert_eq!(end.incarnation, Some(3));
}

#[test]
fn an_end_without_words_gets_some() {
    let oom = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let table = [
        (
            json!({"phase": "Failed", "containerStatuses": vm_container(&oom)}),
            "OutOfMemory",
            Cause::Crash,
        ),
        (
            json!({"phase": "Failed", "reason": "Evicted", "message": "low on disk",
                "containerStatuses": vm_container(&terminated(137, ""))}),
            "PodRejected",
            Cause::Crash,
        ),
        (
            json!({"phase": "Failed", "containerStatuses": vm_container(&terminated(127, "no such file"))}),
            "ContainerFailed",
            Cause::Crash,
        ),
        (
            json!({"phase": "Failed", "reason": "OutOfmemory", "message": "node is full"}),
            "PodRejected",
            Cause::Rejected,
        ),
    ];
    for (status, reason, cause) in table {
        let end = facts(&status).termination().cloned().expect("it ended");
        assert_eq!(
            (end.reason.as_str(), Cause::of(&end)),
            (reason, cause),
            "{}",
            end.message
        );
    }
}

#[test]
fn a_node_that_was_given_up_took_the_pods_readiness_alone() {
    let of = |pod: &str, containers: &str| {
        let condition = |type_: &str, status: &str| {
            json!({"type": type_, "status": status,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let both = [
            condition("Ready", pod),
            condition("ContainersReady", containers),
        ];
        facts(&json!({"phase": "Running", "conditions": both})).unreachable
    };
    assert!(of("False", "True"));
    assert!(!of("False", "False"), "a probe that failed");
    assert!(!of("True", "True"));
}

/// The facts of a pod that fills disk `root` of claim `r`, with this state of
/// its importer and, beside it, the phase and what else is said of it.
fn importing(phase: &str, importer: &Value, change: &Value) -> PodFacts {
    let applied = json!({"image": "i", "spec": {"memory": "1Gi", "disks": [
        {"name": "root", "claim": {"name": "r", "from": {"http": {"url": "https://a.example/d?x"}}}}
    ]}});
    let mut container = json!({"name": "import-root", "ready": false, "restartCount": 0,
                               "image": "", "imageID": ""});
    let fields = container.as_object_mut().expect("an object");
    fields.extend(importer.as_object().expect("an object").clone());
    let waiting = json!({"waiting": {"reason": "PodInitializing"}});
    let mut object = json!({
        "metadata": {"name": "web-3", "uid": "p", "creationTimestamp": "2026-01-01T00:00:00Z",
                     "annotations": {"coracle.dev/applied": applied.to_string()}},
        "spec": {"containers": [{"name": "vm"}], "nodeName": "node1",
                 "initContainers": [{"name": "import-root", "image": "importer"}],
                 "volumes": [{"name": "disk-root", "persistentVolumeClaim": {"claimName": "r"}}]},
        "status": {"phase": phase, "initContainerStatuses": [container],
                   "containerStatuses": vm_container(&waiting)}
    });
    for (pointer, value) in change.as_object().expect("an object") {
        let (parent, key) = pointer.rsplit_once('/').expect("has a parent");
        object.pointer_mut(parent).expect("there")[key] = value.clone();
    }
    kept(PodFacts::of(&pod(object), "web").expect("a pod of the VM"))
}

#[test]
fn an_importer_shows_how_far_its_disk_is() {
    let said = r#"{"reason":"ImportFailed","message":"no route","disk":"root"}"#;
    let back_off = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let failed = terminated(1, said);
    for (importer, wanted) in [
        (json!({}), "waiting"),
        (
            json!({"state": {"waiting": {"reason": "PodInitializing"}}}),
            "waiting",
        ),
        (json!({"state": {"running": {}}}), "running"),
        (
            json!({"state": {"running": {}}, "lastState": failed}),
            "running",
        ),
        (
            json!({"state": back_off, "lastState": failed}),
            "ImportFailed",
        ),
        (json!({"state": failed}), "ImportFailed"),
        (json!({"state": terminated(0, "")}), "done"),
        // It was run again, after a reboot.
        (
            json!({"state": terminated(0, ""), "lastState": failed}),
            "done",
        ),
    ] {
        let pod = importing("Pending", &importer, &json!({}));
        assert_eq!(pod.life, Life::Alive);
        let [import] = &pod.imports[..] else {
            panic!("{:?}", pod.imports);
        };
        let texts = [&import.disk, &import.claim, &import.from];
        assert_eq!(texts, ["root", "r", "https://a.example/d"]);
        let state = match &import.state {
            ImportState::Waiting { image, .. } => {
                assert_eq!(image, "importer");
                "waiting"
            }
            ImportState::Running => "running",
            ImportState::Done => "done",
            ImportState::Failed(ended) => ended.reason.as_str(),
        };
        assert_eq!(state, wanted, "{importer}");
    }
    let plain = facts(&json!({"phase": "Running"}));
    assert_eq!(plain.imports, vec![]);
}

#[test]
fn a_pod_whose_importer_failed_for_good_has_ended() {
    let said = r#"{"reason":"ImportRefused","message":"it is empty","disk":"root"}"#;
    let refused = json!({"state": terminated(2, said)});
    let pod = importing("Failed", &refused, &json!({}));
    let end = pod.termination().expect("it ended");
    assert_eq!(
        (end.reason.as_str(), end.exit_code),
        ("ImportRefused", Some(2))
    );
    assert_eq!(Cause::of(end), Cause::Config);

    let said = r#"{"reason":"ImportFailed","message":"no route","disk":"root"}"#;
    let pod = importing("Failed", &json!({"state": terminated(1, said)}), &json!({}));
    let cause = pod.termination().map(Cause::of);
    assert_eq!(cause, Some(Cause::Rejected), "nothing of the guest ran");

    // Nothing is proven while something runs, or may have.
    let ran = json!({"/status/containerStatuses/0/containerID": "containerd://x"});
    for (importer, change) in [
        (json!({"state": {"running": {}}}), json!({})),
        (refused.clone(), ran),
        (json!({"state": terminated(0, "")}), json!({})),
    ] {
        let pod = importing("Failed", &importer, &change);
        assert_eq!(pod.life, Life::Unproven, "{importer}");
    }

    // Who deletes the pod, or drains its node, makes no import fail.
    let deleted = json!({"/metadata/deletionTimestamp": "2026-01-01T00:00:30Z"});
    for code in [137, 143] {
        let pod = importing("Failed", &json!({"state": terminated(code, "")}), &deleted);
        assert_eq!(pod.termination().map(Cause::of), Some(Cause::Asked));
    }
}
