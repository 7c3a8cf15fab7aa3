//! The summary at the end of a run, for a person. Pure.
//!
//! Never passes on what a guest or an image wrote without taking control
//! characters out: it goes to a terminal.

use std::fmt::Write as _;
use std::time::Duration;

use super::{DeviceGrant, DiskReport, End, Report};
use crate::progress::seconds;

/// Ids are shown as far as tools show them.
const SHORT_ID: usize = 12;

/// The summary, several lines.
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    let ran = report
        .ran_ms
        .map(|ms| format!(", ran {}", seconds(Duration::from_millis(ms))));
    line("VM", &format!("{}{}", report.vm, ran.unwrap_or_default()));
    if let Some(id) = &report.sandbox_id {
        let ip = report
            .pod_ip
            .as_ref()
            .map(|ip| format!(", IP {ip}"))
            .unwrap_or_default();
        line("pod sandbox", &format!("{}{ip}", short(id)));
    }
    if let Some(id) = &report.container_id {
        let runtime = report.runtime.as_deref().unwrap_or("its runtime");
        line(
            "container",
            &format!("{} of {} in {runtime}", short(id), report.image),
        );
    }
    for grant in &report.devices {
        line("device", &device(grant));
    }
    for disk_report in &report.disks {
        line("disk", &disk(disk_report));
    }
    let stages: Vec<String> = report
        .stages
        .iter()
        .map(|stage| {
            format!(
                "{} {}",
                stage.name,
                seconds(Duration::from_millis(stage.ms))
            )
        })
        .collect();
    line("stages", &stages.join(", "));
    if let Some(end) = &report.end {
        line("end", &ending(end));
    }
    text
}

fn short(id: &str) -> String {
    id.chars().take(SHORT_ID).collect()
}

fn device(grant: &DeviceGrant) -> String {
    let nodes = grant.answer.devices.iter();
    let nodes = nodes.map(|node| format!(" → {} → {}", node.host_path, node.container_path));
    let cdi = grant
        .answer
        .cdi_devices
        .iter()
        .map(|name| format!(" → {name}"));
    let places: String = nodes.chain(cdi).collect();
    printable(&format!(
        "{} → {}{places}",
        grant.resource,
        grant.ids.join(", ")
    ))
}

fn disk(disk: &DiskReport) -> String {
    let via = disk
        .loop_device
        .as_ref()
        .map(|path| format!(" → {}", path.display()));
    let size = disk.bytes.map(|bytes| format!(", {}", size(bytes)));
    format!(
        "{}: claim {} → {}{} → {}{}",
        disk.disk,
        disk.claim,
        disk.path.display(),
        via.unwrap_or_default(),
        disk.container_path,
        size.unwrap_or_default(),
    )
}

/// How it ended, on one line.
fn ending(end: &End) -> String {
    let code = end.exit_code;
    let text = match (&end.termination, &end.raw) {
        (Some(said), _) => format!("{:?} (exit code {code}): {}", said.reason, said.message),
        (None, Some(raw)) => format!("{} (exit code {code}): {raw}", end.runtime_reason),
        (None, None) => format!("{} (exit code {code})", end.runtime_reason),
    };
    printable(&text)
}

/// The text without control characters.
#[must_use]
pub fn printable(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A size in bytes, as people read it.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = [
        (1_u64 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use coracle_api::report::{TerminationMessage, TerminationReason};

    use super::super::{AllocateAnswer, NodePath};
    use super::*;
    use crate::progress::Stage;
    use crate::record::VmId;

    #[test]
    fn sizes_are_exact_or_have_one_decimal() {
        assert_eq!(size(2 << 30), "2 GiB");
        assert_eq!(size((3 << 30) / 2), "1.5 GiB");
        assert_eq!(size(512), "512 bytes");
    }

    #[test]
    fn the_summary_of_a_run() {
        let node = NodePath {
            host_path: "/run/coracle/local/dev/kvm".into(),
            container_path: "/dev/kvm".into(),
            permissions: "rw".into(),
        };
        let report = Report {
            vm: VmId {
                namespace: "default".into(),
                name: "web".into(),
            },
            pod: "web-1".into(),
            uid: "uid".into(),
            image: "coracle.dev/vm:0.1.0".into(),
            runtime: Some("containerd 1.6.20".into()),
            sandbox_id: Some("0123456789abcdef".into()),
            pod_ip: Some("10.89.128.2".into()),
            container_id: Some("fedcba9876543210".into()),
            devices: vec![DeviceGrant {
                resource: "coracle.dev/kvm".into(),
                ids: vec!["kvm-0".into()],
                answer: AllocateAnswer {
                    devices: vec![node],
                    ..AllocateAnswer::default()
                },
            }],
            disks: vec![DiskReport {
                disk: "root".into(),
                claim: "web-root".into(),
                path: "/srv/web.img".into(),
                host: "/run/coracle/local/pods/default_web/nodes/web-root".into(),
                loop_device: Some("/dev/loop0".into()),
                container_path: "/dev/coracle/root".into(),
                bytes: Some(2 << 30),
                serial: None,
            }],
            stages: vec![Stage {
                name: "sandbox".into(),
                ms: 210,
            }],
            ran_ms: Some(17_300),
            end: Some(End {
                exit_code: 0,
                runtime_reason: "Completed".into(),
                termination: Some(TerminationMessage {
                    reason: TerminationReason::GuestShutdown,
                    message: "the guest\x1b[2J powered itself off".into(),
                    disk: None,
                }),
                raw: None,
            }),
        };
        insta::assert_snapshot!(summary(&report), @r"
        VM           default/web, ran 17.3 s
        pod sandbox  0123456789ab, IP 10.89.128.2
        container    fedcba987654 of coracle.dev/vm:0.1.0 in containerd 1.6.20
        device       coracle.dev/kvm → kvm-0 → /run/coracle/local/dev/kvm → /dev/kvm
        disk         root: claim web-root → /srv/web.img → /dev/loop0 → /dev/coracle/root, 2 GiB
        stages       sandbox 210 ms
        end          GuestShutdown (exit code 0): the guest [2J powered itself off
        ");
    }
}
