//! What the plugin counts, and whether it is ready. It only ever remembers:
//! nothing waits for it, and a scrape changes nothing.

mod text;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::listing::{Entry, Health, Receiver};
use crate::socket::SocketId;
use text::{Sample, Text, Type};

/// Upper bounds of the probe's histogram, in seconds: from opening a device to
/// the longest that a prober may take.
const PROBE_BOUNDS: [f64; 8] = [0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 10.0];

/// Who ran a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// The plugin itself.
    Plugin,
    /// The prober.
    Prober,
}

/// What is counted, shared by all tasks.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// The resources that are to be registered.
    resources: BTreeMap<String, Shown>,
    registrations: BTreeMap<(String, &'static str), u64>,
    allocations: BTreeMap<(String, &'static str), u64>,
    probes: BTreeMap<(By, bool), Histogram>,
    /// When the kubelet began to listen, in seconds since 1970.
    kubelet: Option<f64>,
    /// Whether the configuration file is in use as it is.
    configuration: Option<bool>,
    /// Whether the container runtime asks the plugin about containers.
    runtime: Option<bool>,
    /// Containers with a device of VFIO, by whether they may lock memory.
    memory_locks: BTreeMap<bool, u64>,
}

#[derive(Debug)]
struct Shown {
    listing: Receiver,
    registered: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Histogram {
    /// How many were at most as long as each bound.
    within: [u64; PROBE_BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Metrics {
    /// Numbers only: even after a panic they are whole.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A resource is to be registered from now on.
    pub(crate) fn begin(&self, resource: &str, listing: Receiver) {
        let registered = false;
        let shown = Shown {
            listing,
            registered,
        };
        self.counts().resources.insert(resource.to_owned(), shown);
    }

    /// A resource is gone, unless there is another of its name by now.
    pub(crate) fn end(&self, resource: &str, listing: &Receiver) {
        let resources = &mut self.counts().resources;
        let same = |shown: &Shown| shown.listing.same_channel(listing);
        if resources.get(resource).is_some_and(same) {
            resources.remove(resource);
        }
    }

    /// A registration came about, with the kubelet of that socket, or did not.
    pub(crate) fn registration(&self, resource: &str, result: Result<SocketId, &'static str>) {
        let mut counts = self.counts();
        let label = result.err().unwrap_or("ok");
        let key = (resource.to_owned(), label);
        *counts.registrations.entry(key).or_default() += 1;
        if let Ok(kubelet) = result {
            counts.kubelet = Some(kubelet.made());
            if let Some(shown) = counts.resources.get_mut(resource) {
                shown.registered = true;
            }
        }
    }

    /// A registration has ended.
    pub(crate) fn unregistered(&self, resource: &str) {
        if let Some(shown) = self.counts().resources.get_mut(resource) {
            shown.registered = false;
        }
    }

    /// `Allocate` was answered: `ok`, or with an error.
    pub(crate) fn allocation(&self, resource: &str, result: &'static str) {
        let key = (resource.to_owned(), result);
        *self.counts().allocations.entry(key).or_default() += 1;
    }

    /// KVM was probed.
    pub(crate) fn probe(&self, by: By, passed: bool, took: Duration) {
        let mut counts = self.counts();
        let histogram = counts.probes.entry((by, passed)).or_default();
        let seconds = took.as_secs_f64();
        for (bound, within) in PROBE_BOUNDS.iter().zip(&mut histogram.within) {
            *within += u64::from(seconds <= *bound);
        }
        histogram.count += 1;
        histogram.sum += seconds;
    }

    /// The configuration file was read, and is used or is not.
    pub(crate) fn configuration(&self, used: bool) {
        self.counts().configuration = Some(used);
    }

    /// The container runtime asks the plugin about containers, or does not.
    pub(crate) fn runtime_connected(&self, connected: bool) {
        self.counts().runtime = Some(connected);
    }

    /// A container with a device of VFIO is made, and may lock memory now or
    /// has a limit that somebody else has set.
    pub(crate) fn memory_lock(&self, raised: bool) {
        *self.counts().memory_locks.entry(raised).or_default() += 1;
    }

    /// The resources that the kubelet does not know of yet.
    pub(crate) fn missing(&self) -> Vec<String> {
        let counts = self.counts();
        let missing = counts.resources.iter().filter(|(_, s)| !s.registered);
        missing.map(|(name, _)| name.clone()).collect()
    }

    /// All of it.
    pub(crate) fn to_text(&self) -> String {
        let counts = self.counts();
        let mut text = Text::default();
        text.family(
            "build_info",
            Type::Gauge,
            "The plugin's version",
            [Sample::new([("version", env!("CARGO_PKG_VERSION"))], 1.0)],
        );
        text.family(
            "devices",
            Type::Gauge,
            "Devices by resource and health, slots counted",
            counts
                .resources
                .iter()
                .flat_map(|(name, s)| devices(name, s)),
        );
        let registered = counts.resources.iter();
        text.family(
            "registered",
            Type::Gauge,
            "Whether the kubelet knows of the resource",
            registered.map(|(name, s)| Sample::new([("resource", name)], s.registered.into())),
        );
        text.family(
            "registrations",
            Type::Counter,
            "Registrations with the kubelet, by result",
            by_result(&counts.registrations),
        );
        text.family(
            "allocations",
            Type::Counter,
            "Answers to Allocate, by result",
            by_result(&counts.allocations),
        );
        probes(&mut text, &counts.probes);
        text.family(
            "kubelet_start_time_seconds",
            Type::Gauge,
            "When the kubelet last began to listen, since 1970",
            counts.kubelet.map(|made| Sample::new([], made)),
        );
        text.family(
            "configuration_used",
            Type::Gauge,
            "Whether the configuration file is used as it is; without a file there is none",
            counts
                .configuration
                .map(|used| Sample::new([], used.into())),
        );
        runtime(&mut text, &counts);
        text.end()
    }
}

fn runtime(text: &mut Text, counts: &Counts) {
    text.family(
        "nri_connected",
        Type::Gauge,
        "Whether the container runtime asks the plugin about containers; without --nri-socket \
         there is none",
        counts
            .runtime
            .map(|connected| Sample::new([], connected.into())),
    );
    text.family(
        "memory_locks",
        Type::Counter,
        "Containers with a device of VFIO, by what became of their limit on locked memory",
        counts.memory_locks.iter().map(|(raised, count)| {
            let result = if *raised { "raised" } else { "kept" };
            Sample::count([("result", result)], *count)
        }),
    );
}

fn probes(text: &mut Text, probes: &BTreeMap<(By, bool), Histogram>) {
    text.histogram(
        "kvm_probe_duration_seconds",
        "How long the probes of KVM took",
        &PROBE_BOUNDS,
        probes.iter().map(|((by, passed), histogram)| {
            let by = match by {
                By::Plugin => "plugin",
                By::Prober => "prober",
            };
            let result = if *passed { "passed" } else { "failed" };
            let labels = [("by", by), ("result", result)];
            (labels, histogram.within, histogram.count, histogram.sum)
        }),
    );
}

fn devices<'a>(name: &'a str, shown: &Shown) -> [Sample<'a, 2>; 2] {
    let listing = shown.listing.borrow();
    let entries: &[Arc<Entry>] = listing.as_ref().map_or(&[], |listing| &listing.entries);
    [("healthy", true), ("unhealthy", false)].map(|(label, wanted)| {
        let counted = entries.iter();
        let counted = counted.filter(|entry| (entry.health == Health::Healthy) == wanted);
        let count = counted.map(|entry| entry.count()).sum::<usize>();
        Sample::count([("resource", name), ("health", label)], count as u64)
    })
}

fn by_result<'a>(
    counts: &'a BTreeMap<(String, &'static str), u64>,
) -> impl Iterator<Item = Sample<'a, 2>> {
    counts.iter().map(|((resource, result), count)| {
        Sample::count([("resource", resource), ("result", result)], *count)
    })
}

#[cfg(test)]
mod tests;
