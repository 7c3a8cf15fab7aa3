//! The facts as text: a pure function.

use std::fmt::Write as _;

use coracle_api::vm::{Termination, VirtualMachineStatus};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::{Facts, advice, disks, machine};
use crate::kubectl::age;
use crate::kubectl::table::table;

/// Most events that are shown: the latest.
const EVENTS: usize = 20;

/// The text.
pub(super) fn render(facts: &Facts, now: Timestamp) -> String {
    let vm = &facts.vm;
    let status = vm.status.clone().unwrap_or_default();
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{:<14} {value}", format!("{key}:"));
    };
    line("Name", vm.metadata.name.as_deref().unwrap_or_default());
    line(
        "Namespace",
        vm.metadata.namespace.as_deref().unwrap_or_default(),
    );
    line("Phase", &phase(&status, now));
    line("Run policy", &format!("{:?}", vm.spec.run_policy));
    line("Machine", &machine::machine(vm));
    line("Pod", &machine::pod(vm, facts.pod.as_ref()));
    if let Some(last) = &status.last_termination {
        line("Last end", &termination(last, &status, now));
    }
    section(&mut text, "Disks", &disks::rows(facts));
    let claims = facts.explanations.iter().map(ToString::to_string);
    list(&mut text, "Claims", &claims.collect::<Vec<_>>());
    section(&mut text, "Interfaces", &interfaces(facts));
    list(
        &mut text,
        "Devices",
        &machine::devices(&facts.vm, facts.pod.as_ref()),
    );
    section(&mut text, "Conditions", &conditions(&status, now));
    section(&mut text, "Events", &events(&facts.events, now));
    list(&mut text, "Not shown", &facts.hidden);
    let next = advice::advice(vm);
    if next.is_empty() {
        text.push_str("What to do: nothing\n");
    } else {
        list(&mut text, "What to do", &next);
    }
    text
}

fn phase(status: &VirtualMachineStatus, now: Timestamp) -> String {
    let Some(phase) = status.phase else {
        return "unknown: the controller has not looked at it yet".to_owned();
    };
    let entered = status
        .phase_transitions
        .iter()
        .find(|entry| entry.phase == phase);
    match entered {
        Some(entry) => format!("{phase:?}, for {}", age::since(Some(&entry.at), now)),
        None => format!("{phase:?}"),
    }
}

/// `GuestPanicked 5m ago, in an earlier pod, exit code 1: the guest …`.
fn termination(last: &Termination, status: &VirtualMachineStatus, now: Timestamp) -> String {
    let ago = age::since(Some(&last.at), now);
    let mut head = format!("{} {ago} ago", last.reason);
    if last.incarnation != status.incarnation {
        head.push_str(", in an earlier pod");
    }
    if let Some(code) = last.exit_code {
        let _ = write!(head, ", exit code {code}");
    }
    format!("{head}: {}", last.message)
}

fn interfaces(facts: &Facts) -> Vec<Vec<String>> {
    let head = ["NAME", "BINDING", "MODEL", "MAC"]
        .map(str::to_owned)
        .to_vec();
    let cards = facts.vm.spec.interfaces.iter().map(|card| {
        vec![
            card.name.clone(),
            format!("{:?}", card.binding),
            format!("{:?}", card.model),
            card.mac_address
                .clone()
                .unwrap_or_else(|| "from its name".to_owned()),
        ]
    });
    std::iter::once(head).chain(cards).collect()
}

fn conditions(status: &VirtualMachineStatus, now: Timestamp) -> Vec<Vec<String>> {
    let head = ["TYPE", "STATUS", "REASON", "FOR", "MESSAGE"]
        .map(str::to_owned)
        .to_vec();
    let each = status.conditions.iter().map(|condition| {
        vec![
            condition.type_.clone(),
            condition.status.clone(),
            condition.reason.clone(),
            age::since(Some(&condition.last_transition_time), now),
            condition.message.clone(),
        ]
    });
    std::iter::once(head).chain(each).collect()
}

/// When an event happened last.
pub(super) fn time_of(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref());
    let micro = series.or(event.event_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let made = event
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|time| time.0);
    last.or(micro).or(made)
}

fn events(events: &[Event], now: Timestamp) -> Vec<Vec<String>> {
    let head = ["AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"]
        .map(str::to_owned)
        .to_vec();
    let latest = &events[events.len().saturating_sub(EVENTS)..];
    let each = latest.iter().map(|event| {
        let kind = event.involved_object.kind.clone().unwrap_or_default();
        let name = event.involved_object.name.as_deref().unwrap_or_default();
        let message = event.message.clone().unwrap_or_default();
        vec![
            age::since(time_of(event).map(Time).as_ref(), now),
            event.type_.clone().unwrap_or_default(),
            event.reason.clone().unwrap_or_default(),
            format!("{}/{name}", kind.to_lowercase()),
            message.trim_end().replace('\n', " "),
        ]
    });
    std::iter::once(head).chain(each).collect()
}

/// A table with its name; one without lines is left out.
fn section(text: &mut String, name: &str, rows: &[Vec<String>]) {
    if rows.len() < 2 {
        return;
    }
    let _ = writeln!(text, "{name}:");
    for line in table(rows).lines() {
        let _ = writeln!(text, "  {line}");
    }
}

/// Lines with a name; none at all are left out.
fn list(text: &mut String, name: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "{name}:");
    for line in lines.iter().flat_map(|entry| entry.lines()) {
        let _ = writeln!(text, "  {line}");
    }
}
