//! Each command on a VM in each state that matters.

use super::*;
use crate::kubectl::testing::{running, vm};

fn with(mut vm: VirtualMachine, policy: RunPolicy, annotations: &[(&str, &str)]) -> VirtualMachine {
    vm.spec.run_policy = policy;
    let annotations = annotations
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    vm.metadata.annotations = Some(annotations.collect());
    vm
}

fn ended(phase: Phase) -> VirtualMachine {
    let mut vm = running("web");
    vm.spec.run_policy = RunPolicy::Once;
    if let Some(status) = &mut vm.status {
        status.phase = Some(phase);
    }
    vm
}

fn patch(vm: &VirtualMachine, action: Action) -> Value {
    match step(vm, action, "now") {
        Step::Patch { patch, .. } => patch,
        other => panic!("{other:?}"),
    }
}

fn said(vm: &VirtualMachine, action: Action) -> String {
    match step(vm, action, "now") {
        Step::Already { said, .. } | Step::Refuse(said) => said,
        other @ Step::Patch { .. } => panic!("{other:?}"),
    }
}

/// The VM after a merge patch.
fn patched(vm: &VirtualMachine, patch: &Value) -> VirtualMachine {
    fn merge(into: &mut Value, patch: &Value) {
        let Some(fields) = patch.as_object() else {
            *into = patch.clone();
            return;
        };
        if !into.is_object() {
            *into = json!({});
        }
        for (key, value) in fields {
            if value.is_null() {
                into.as_object_mut().expect("an object").remove(key);
            } else {
                merge(&mut into[key], value);
            }
        }
    }
    let mut value = serde_json::to_value(vm).expect("JSON");
    merge(&mut value, patch);
    serde_json::from_value(value).expect("a VM")
}

#[test]
fn stop_and_start_give_each_run_policy_back() {
    for policy in [RunPolicy::Always, RunPolicy::OnFailure, RunPolicy::Once] {
        let before = with(running("web"), policy, &[]);
        let stopped = patched(&before, &patch(&before, Action::Stop));
        assert_eq!(stopped.spec.run_policy, RunPolicy::Halted);
        let started = patched(&stopped, &patch(&stopped, Action::Start));
        assert_eq!(started.spec.run_policy, policy);
        assert_eq!(annotation(&started, ANNOTATION_RUN_POLICY), None);
    }
}

#[test]
fn a_vm_halted_by_its_manifest_starts_with_the_default_policy() {
    for noted in [None, Some("Halted"), Some("nonsense")] {
        let annotations = noted.map(|noted| (ANNOTATION_RUN_POLICY, noted));
        let halted = with(vm("web"), RunPolicy::Halted, annotations.as_slice());
        assert_eq!(patch(&halted, Action::Start)["spec"]["runPolicy"], "Always");
    }
}

#[test]
fn what_is_so_already_is_not_asked_for_again() {
    let paused = with(
        running("web"),
        RunPolicy::Always,
        &[(ANNOTATION_DESIRED, "Paused")],
    );
    let halted = with(vm("web"), RunPolicy::Halted, &[]);
    for (vm, action, text) in [
        (
            &running("web"),
            Action::Start,
            "web: is started already (Running)",
        ),
        (&vm("web"), Action::Start, "web: is started already"),
        (&halted, Action::Stop, "web: is halted already"),
        (&paused, Action::Pause, "web: is paused already"),
        (&running("web"), Action::Resume, "web: is not paused"),
        (
            &paused,
            Action::Start,
            "web: is started, and paused; kubectl coracle resume web lets it go on",
        ),
    ] {
        assert_eq!(said(vm, action), text);
        assert!(
            matches!(step(vm, action, "now"), Step::Already { .. }),
            "{text}"
        );
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_way_out() {
    let halted = with(vm("web"), RunPolicy::Halted, &[]);
    for action in [Action::Restart, Action::Pause, Action::Resume] {
        assert_eq!(
            said(&halted, action),
            "web is halted: start it with kubectl coracle start web"
        );
    }
    assert_eq!(
        said(&ended(Phase::Failed), Action::Pause),
        "web does not run (Failed): there is nothing to pause"
    );
}

#[test]
fn an_ended_vm_is_started_by_the_restart_annotation() {
    for phase in [Phase::Stopped, Phase::Failed] {
        let patch = patch(&ended(phase), Action::Start);
        assert_eq!(patch["metadata"]["annotations"][ANNOTATION_RESTART], "now");
        assert_eq!(patch["spec"], Value::Null);
    }
}

#[test]
fn a_restart_ends_a_pause() {
    let paused = with(
        running("web"),
        RunPolicy::Always,
        &[(ANNOTATION_DESIRED, "Paused")],
    );
    let after = patched(&paused, &patch(&paused, Action::Restart));
    assert!(!is_to_be_paused(&after));
    assert_eq!(annotation(&after, ANNOTATION_RESTART), Some("now"));
}

#[test]
fn pause_and_resume_are_the_annotation() {
    let vm = running("web");
    let paused = patched(&vm, &patch(&vm, Action::Pause));
    assert!(is_to_be_paused(&paused));
    let resumed = patched(&paused, &patch(&paused, Action::Resume));
    assert_eq!(annotation(&resumed, ANNOTATION_DESIRED), Some("Running"));
}
