//! Objects for the tests of the pure parts.

use std::sync::Arc;

use coracle_api::vm::{Termination, VirtualMachine};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::decide::Observation;
use super::facts::{Carried, Container, Life, PodFacts};
use crate::plan::Observed;
use crate::{Restarts, Settings};

/// Some time after the epoch.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

pub(crate) fn settings() -> Settings {
    Settings {
        image: "coracle.dev/vm:test".into(),
        importer: "coracle.dev/importer:test".into(),
        restarts: Restarts::ByExitCode,
    }
}

/// A VM with an ephemeral disk, changed by `change`.
pub(crate) fn vm(change: Value) -> VirtualMachine {
    let mut object = json!({
        "apiVersion": "coracle.dev/v1alpha1", "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 1,
                     "annotations": {}},
        "spec": {"runPolicy": "Always", "accelerator": "Emulation", "memory": "64Mi",
                 "disks": [{"name": "root", "ephemeral": {"size": "64Mi"}}]}
    });
    merge(&mut object, change);
    serde_json::from_value(object).expect("a VM")
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

/// A pod that runs.
pub(crate) fn running(incarnation: i64) -> PodFacts {
    PodFacts {
        name: format!("web-{incarnation}"),
        uid: Some(format!("pod-{incarnation}")),
        version: None,
        incarnation,
        created_at: at(0),
        deleting: false,
        node: Some("node1".into()),
        ip: Some("10.1.2.3".into()),
        scheduled_at: Some(at(1)),
        unschedulable: None,
        unreachable: false,
        life: Life::Alive,
        container: Container::Running {
            since: at(2),
            ready: Some(at(3)),
        },
        imports: vec![],
        last_crash: None,
        carried: Carried {
            desired: "Running".into(),
            generation: Some(1),
            restart_policy: "Never".into(),
            restart_codes: vec![0, 1],
            ..Carried::default()
        },
    }
}

/// How a pod ended.
pub(crate) fn ended(incarnation: i64, reason: &str, exit_code: Option<i32>) -> Termination {
    Termination {
        reason: reason.into(),
        message: "why".into(),
        exit_code,
        at: Time(at(100)),
        incarnation: Some(incarnation),
    }
}

/// A pod that ended.
pub(crate) fn over(incarnation: i64, reason: &str, exit_code: Option<i32>) -> PodFacts {
    PodFacts {
        life: Life::Ended(Box::new(ended(incarnation, reason, exit_code))),
        container: Container::Terminated,
        ..running(incarnation)
    }
}

pub(crate) fn seen(vm: VirtualMachine, pods: Vec<PodFacts>) -> Observation {
    Observation {
        vm: Arc::new(vm),
        pods: pods.into_iter().map(Arc::new).collect(),
        observed: Observed::default(),
    }
}

/// A pod object from JSON.
pub(crate) fn pod(object: Value) -> Pod {
    serde_json::from_value(object).expect("a pod")
}
