//! The text as a scraper gets it.

use std::sync::Arc;

use super::*;
use crate::listing::{Listing, channel, publish};
use crate::resource::{Kind, Resource};

const NAME: &str = "coracle.dev/kvm";

fn counted() -> Metrics {
    let metrics = Metrics::default();
    let sender = channel();
    metrics.begin(NAME, sender.subscribe());
    let resource = Arc::new(Resource::new(NAME, Kind::Chardev, vec![]));
    let entry = Entry {
        slots: Some(3),
        ..Entry::new("kvm")
    };
    publish(&sender, Listing::new(resource, vec![entry]));
    metrics.registration(NAME, Err("refused"));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("kubelet.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).expect("binds");
    metrics.registration(NAME, Ok(SocketId::of(&path).expect("there")));
    metrics.allocation(NAME, "ok");
    metrics.allocation(NAME, "unhealthy");
    metrics.probe(By::Prober, true, Duration::from_millis(70));
    metrics.configuration(false);
    metrics.runtime_connected(true);
    metrics.memory_lock(true);
    metrics.memory_lock(false);
    metrics
}

#[test]
fn what_was_counted_can_be_read() {
    let text = counted().to_text();
    for line in [
        "devices{resource=\"coracle.dev/kvm\",health=\"healthy\"} 3",
        "devices{resource=\"coracle.dev/kvm\",health=\"unhealthy\"} 0",
        "registered{resource=\"coracle.dev/kvm\"} 1",
        "registrations_total{resource=\"coracle.dev/kvm\",result=\"ok\"} 1",
        "registrations_total{resource=\"coracle.dev/kvm\",result=\"refused\"} 1",
        "allocations_total{resource=\"coracle.dev/kvm\",result=\"unhealthy\"} 1",
        "kvm_probe_duration_seconds_bucket{by=\"prober\",result=\"passed\",le=\"0.05\"} 0",
        "kvm_probe_duration_seconds_bucket{by=\"prober\",result=\"passed\",le=\"1.0\"} 1",
        "kvm_probe_duration_seconds_sum{by=\"prober\",result=\"passed\"} 0.07",
        "configuration_used 0",
        "nri_connected 1",
        "memory_locks_total{result=\"raised\"} 1",
        "memory_locks_total{result=\"kept\"} 1",
    ] {
        let line = format!("\ncoracle_device_plugin_{line}\n");
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    let made = text.lines().find_map(|line| {
        let seconds = line.strip_prefix("coracle_device_plugin_kubelet_start_time_seconds ")?;
        seconds.parse::<f64>().ok()
    });
    assert!(made.is_some_and(|made| made > 1.7e9), "{text}");
}

#[test]
fn a_resource_is_missing_until_it_is_registered_and_is_gone_with_its_list() {
    let metrics = Metrics::default();
    let (old, new) = (channel().subscribe(), channel().subscribe());
    metrics.begin(NAME, old.clone());
    assert_eq!(metrics.missing(), [NAME]);
    metrics.begin(NAME, new.clone());
    metrics.end(NAME, &old);
    assert_eq!(metrics.missing(), [NAME], "another has its name by now");
    metrics.end(NAME, &new);
    assert!(metrics.missing().is_empty());
}

#[test]
fn each_metric_is_explained_in_the_guides() {
    let text = counted().to_text();
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
    let names: Vec<&str> = names.collect();
    assert!(names.len() >= 8, "{names:?}");
    let guide = include_str!("../../../docs/device-plugin.md");
    for name in names {
        assert!(
            guide.contains(&format!("| `{name}")),
            "docs/device-plugin.md does not explain the metric {name}: add it to the table there"
        );
    }
}
