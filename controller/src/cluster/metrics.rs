//! What the controller counts, as `OpenMetrics` text.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_api::vm::{Phase, VirtualMachineStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::context::Vms;
use super::facts::word;
use super::unreadable::Unreadable;

type Labels = Vec<(&'static str, String)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// Counters, gauges and histograms; cheap to share.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    writes: Family<Labels, Counter>,
    transitions: Histograms,
    reconciles: Histograms,
    errors: Counter,
    leading: Gauge,
    vms: VmsByPhase,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("coracle");
        let metrics = Self {
            registry: Arc::default(),
            writes: Family::default(),
            transitions: Family::new_with_constructor(seconds_to_minutes),
            reconciles: Family::new_with_constructor(milliseconds_to_seconds),
            errors: Counter::default(),
            leading: Gauge::default(),
            vms: VmsByPhase::default(),
        };
        registry.register(
            "api_writes",
            "Requests that change something, by verb and resource; leases and events not counted",
            metrics.writes.clone(),
        );
        registry.register_with_unit(
            "vm_phase_transition",
            "From the creation of a VM's pod to the phase",
            Unit::Seconds,
            metrics.transitions.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "How long one look at a VM took, by its result",
            Unit::Seconds,
            metrics.reconciles.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Looks at a VM that failed and are tried again",
            metrics.errors.clone(),
        );
        registry.register(
            "leader",
            "Whether this replica leads",
            metrics.leading.clone(),
        );
        registry.register_collector(Box::new(metrics.vms.clone()));
        Self {
            registry: Arc::new(registry),
            ..metrics
        }
    }
}

fn seconds_to_minutes() -> Histogram {
    Histogram::new(exponential_buckets(0.5, 2.0, 12))
}

fn milliseconds_to_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 14))
}

impl Metrics {
    /// A write is about to be sent.
    pub fn wrote(&self, verb: &'static str, resource: &'static str) {
        let labels = vec![("verb", verb.to_owned()), ("resource", resource.to_owned())];
        self.writes.get_or_create(&labels).inc();
    }

    /// How many writes of a kind were sent.
    #[must_use]
    pub fn writes(&self, verb: &'static str, resource: &'static str) -> u64 {
        let labels = vec![("verb", verb.to_owned()), ("resource", resource.to_owned())];
        self.writes.get(&labels).map_or(0, |counter| counter.get())
    }

    /// A look at a VM ended.
    pub fn reconciled(&self, took: Duration, ok: bool) {
        let result = if ok { "ok" } else { "error" };
        let labels = vec![("result", result.to_owned())];
        self.reconciles
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        if !ok {
            self.errors.inc();
        }
    }

    /// A status was written: observes the phases that it enters.
    pub fn entered(&self, old: Option<&VirtualMachineStatus>, new: &VirtualMachineStatus) {
        let created = new
            .phase_transitions
            .iter()
            .find(|entry| entry.phase == Phase::Scheduling);
        let Some(created) = created else { return };
        let known = old.map_or(&[][..], |old| old.phase_transitions.as_slice());
        let news = new.phase_transitions.iter();
        for entry in news.filter(|entry| !known.contains(entry)) {
            let took = entry.at.0.duration_since(created.at.0);
            let labels = vec![("phase", word(&entry.phase))];
            self.transitions
                .get_or_create(&labels)
                .observe(took.as_secs_f64().max(0.0));
        }
    }

    /// This replica leads from now on, and these are its VMs.
    pub fn leads(&self, vms: Arc<Vms>, unreadable: Arc<Unreadable>) {
        self.leading.set(1);
        *self.vms.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((vms, unreadable));
    }

    /// All of it, as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a string takes all that is written");
        out
    }
}

/// Counted when asked, so that it cannot drift from what there is.
#[derive(Clone, Default)]
struct VmsByPhase(Arc<Mutex<Option<Led>>>);

/// The VMs, and those that cannot be read.
type Led = (Arc<Vms>, Arc<Unreadable>);

impl fmt::Debug for VmsByPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VmsByPhase")
    }
}

impl Collector for VmsByPhase {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((store, unreadable)) = store.as_ref() else {
            return Ok(());
        };
        let family: Family<Labels, Gauge> = Family::default();
        for phase in Phase::ALL {
            family.get_or_create(&vec![("phase", word(&phase))]).set(0);
        }
        for phase in store.tags() {
            family.get_or_create(&vec![("phase", word(&phase))]).inc();
        }
        let type_ = ConstGauge::new(0_i64).metric_type();
        let descriptor = encoder.encode_descriptor("vms", "VMs by phase", None, type_)?;
        family.encode(descriptor)?;
        let unread = ConstGauge::new(i64::try_from(unreadable.count()).unwrap_or(i64::MAX));
        let help = "VMs that this version of the controller cannot read";
        let descriptor = encoder.encode_descriptor("vms_unreadable", help, None, type_)?;
        unread.encode(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use coracle_api::vm::{Phase, PhaseTransition, VirtualMachineStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::Metrics;
    use crate::cluster::frozen::Frozen;

    #[test]
    fn what_was_counted_can_be_read() {
        let metrics = Metrics::default();
        metrics.wrote("create", "pods");
        metrics.wrote("create", "pods");
        metrics.reconciled(Duration::from_millis(3), false);
        assert_eq!(metrics.writes("create", "pods"), 2);
        let text = metrics.to_text();
        for line in [
            "coracle_api_writes_total{verb=\"create\",resource=\"pods\"} 2",
            "coracle_reconcile_errors_total 1",
            "coracle_reconcile_duration_seconds_count{result=\"error\"} 1",
            "coracle_leader 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn each_metric_is_explained_in_the_guide() {
        let guide = include_str!("../../../docs/operations.md");
        let metrics = Metrics::default();
        // Of each family one, or the family is not there.
        metrics.leads(Arc::new(Frozen::new(|_| Phase::Pending)), Arc::default());
        metrics.wrote("create", "pods");
        metrics.reconciled(Duration::ZERO, true);
        let entered = PhaseTransition {
            phase: Phase::Scheduling,
            at: Time(Timestamp::UNIX_EPOCH),
        };
        let status = VirtualMachineStatus {
            phase_transitions: vec![entered],
            ..VirtualMachineStatus::default()
        };
        metrics.entered(None, &status);
        let text = metrics.to_text();
        let names = text.lines().filter_map(|line| {
            let help = line.strip_prefix("# HELP ")?;
            help.split(' ').next()
        });
        let names: Vec<&str> = names.collect();
        assert!(names.len() >= 6, "{names:?}");
        for name in names {
            assert!(
                guide.contains(&format!("| `{name}")),
                "docs/operations.md does not explain the metric {name}: add it to the table there"
            );
        }
    }
}
