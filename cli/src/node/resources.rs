//! Requests and limits as cgroup settings, by the kubelet's formulas.

use std::collections::{BTreeMap, HashMap};

use k8s_cri::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Host, NodeError, only_container};
use crate::volume::quantity;

/// One CPU in cgroup v1 shares; the runtime converts them where it must.
const SHARES_PER_CPU: u64 = 1024;
/// The kernel's least.
const MIN_SHARES: u64 = 2;
/// The period that limits are enforced in, in microseconds.
const PERIOD: u64 = 100_000;
/// `oom_score_adj` of a container whose requests are its limits.
const OOM_GUARANTEED: i64 = -997;

type Quantities = BTreeMap<String, Quantity>;

fn limits(container: &Container) -> Quantities {
    container
        .resources
        .as_ref()
        .and_then(|r| r.limits.clone())
        .unwrap_or_default()
}

/// Requests; a resource with a limit only is requested in full.
fn requested(container: &Container) -> Quantities {
    let mut requests = limits(container);
    let own = container
        .resources
        .as_ref()
        .and_then(|r| r.requests.clone());
    requests.extend(own.unwrap_or_default());
    requests
}

/// The extended resources that the pod's container requests: those that
/// device plugins have.
pub fn requests(pod: &Pod) -> Result<BTreeMap<String, usize>, NodeError> {
    let (_, container) = only_container(pod)?;
    let mut wanted = BTreeMap::new();
    for (resource, quantity) in limits(container) {
        // Native resources have no domain.
        if !resource.contains('/') {
            continue;
        }
        let count = quantity.0.parse().map_err(|_| NodeError::Quantity {
            field: format!("resources.limits[{resource}]"),
            quantity: quantity.0.clone(),
        })?;
        wanted.insert(resource, count);
    }
    Ok(wanted)
}

/// The memory that the pod's container requests, in bytes.
pub fn memory_request(pod: &Pod) -> Result<u64, NodeError> {
    let (_, container) = only_container(pod)?;
    Ok(bytes(&requested(container), "requests")?.unwrap_or(0))
}

fn bytes(quantities: &Quantities, field: &str) -> Result<Option<u64>, NodeError> {
    let Some(memory) = quantities.get("memory") else {
        return Ok(None);
    };
    let wrong = || NodeError::Quantity {
        field: format!("resources.{field}.memory"),
        quantity: memory.0.clone(),
    };
    quantity::bytes(&memory.0).map(Some).ok_or_else(wrong)
}

fn millicpu(quantities: &Quantities, field: &str) -> Result<Option<u64>, NodeError> {
    let Some(cpu) = quantities.get("cpu") else {
        return Ok(None);
    };
    let wrong = || NodeError::Quantity {
        field: format!("resources.{field}.cpu"),
        quantity: cpu.0.clone(),
    };
    let millis = match cpu.0.strip_suffix('m') {
        Some(number) => number.parse::<u64>().ok(),
        None => cpu
            .0
            .parse::<u64>()
            .ok()
            .and_then(|cpus| cpus.checked_mul(1000)),
    };
    millis.map(Some).ok_or_else(wrong)
}

pub(super) fn of_container(
    container: &Container,
    host: Host,
) -> Result<LinuxContainerResources, NodeError> {
    let limits = limits(container);
    let requests = requested(container);
    let memory = bytes(&limits, "limits")?;
    let cpu_limit = millicpu(&limits, "limits")?;
    let cpu_request = millicpu(&requests, "requests")?.unwrap_or(0);
    let shares = (cpu_request.saturating_mul(SHARES_PER_CPU) / 1000).max(MIN_SHARES);
    let guaranteed = memory.is_some()
        && cpu_limit.is_some()
        && ["memory", "cpu"]
            .iter()
            .all(|name| limits.get(*name) == requests.get(*name));
    let oom_score_adj = if guaranteed {
        OOM_GUARANTEED
    } else {
        burstable_oom_score(
            bytes(&requests, "requests")?.unwrap_or(0),
            host.memory_bytes,
        )
    };
    // All of a VM or nothing: qemu killed alone would leave the shim to
    // report a crash it cannot explain.
    let unified = host
        .unified_cgroups
        .then(|| ("memory.oom.group".to_owned(), "1".to_owned()));
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    Ok(LinuxContainerResources {
        cpu_period: signed(PERIOD),
        cpu_quota: cpu_limit.map_or(0, |millis| signed(millis.saturating_mul(PERIOD) / 1000)),
        cpu_shares: signed(shares),
        memory_limit_in_bytes: memory.map_or(0, signed),
        oom_score_adj,
        unified: HashMap::from_iter(unified),
        ..LinuxContainerResources::default()
    })
}

/// The more of the machine a container asked for, the later it is killed.
fn burstable_oom_score(request: u64, capacity: u64) -> i64 {
    let share = request.saturating_mul(1000) / capacity.max(1);
    let score = 1000 - i64::try_from(share).unwrap_or(1000);
    // Between what guaranteed pods and best-effort pods have.
    score.clamp(1000 + OOM_GUARANTEED, 999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oom_score_follows_the_share_of_the_machine() {
        assert_eq!(burstable_oom_score(0, 1 << 30), 999);
        assert_eq!(burstable_oom_score(1 << 29, 1 << 30), 500);
        assert_eq!(burstable_oom_score(1 << 40, 1 << 30), 3);
        assert_eq!(burstable_oom_score(u64::MAX, 0), 3);
    }
}
