//! What to do next: a line for each thing that is not as it should be.

use coracle_api::vm::{ConditionType, Phase, VirtualMachine};

use crate::kubectl::facts::{advise, condition};

/// The advice, the most urgent first; no text is there twice.
pub(super) fn advice(vm: &VirtualMachine) -> Vec<String> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let Some(status) = &vm.status else {
        return vec![
            "the controller has not looked at the VM yet: see whether it runs, with kubectl -n \
             coracle-system get deploy coracle-controller"
                .to_owned(),
        ];
    };
    let refused = |kind| {
        let found = condition(status, kind).filter(|condition| condition.status != "True");
        found.map(|condition| condition.reason.as_str())
    };
    let restart = condition(status, ConditionType::RestartRequired)
        .filter(|condition| condition.status == "True")
        .map(|condition| condition.reason.as_str());
    // A crash that the VM has recovered from is still worth a look.
    let crash = status
        .last_termination
        .as_ref()
        .filter(|last| last.incarnation == status.incarnation && last.exit_code != Some(0))
        .map(|last| last.reason.as_str());
    let wanted_off = status.phase == Some(Phase::Stopped);
    let all = [
        refused(ConditionType::Ready),
        refused(ConditionType::DisksReady).filter(|_| !wanted_off),
        refused(ConditionType::Scheduled).filter(|_| !wanted_off),
        crash,
        restart,
    ];
    let mut texts: Vec<String> = Vec::new();
    for reason in all.into_iter().flatten() {
        if let Some(text) = advise(reason, name, status.pod_name.as_deref())
            && !texts.contains(&text)
        {
            texts.push(text);
        }
    }
    texts
}
