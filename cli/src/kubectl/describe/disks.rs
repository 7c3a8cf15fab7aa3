//! The disks, each with what is known of its source.

use coracle_api::vm::{Disk, VirtualMachine};
use coracle_controller::import::imported;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::Facts;

/// The claims that a VM names: its disks', then its kernel's.
pub(super) fn claim_names(vm: &VirtualMachine) -> Vec<String> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let disks = vm
        .spec
        .disks
        .iter()
        .filter_map(|disk| disk.claim_name(name));
    let firmware = vm.spec.firmware.as_ref();
    let kernel = firmware.and_then(|firmware| firmware.kernel.as_ref());
    disks
        .chain(kernel.map(|kernel| kernel.claim.name.clone()))
        .collect()
}

/// A line for each disk.
pub(super) fn rows(facts: &Facts) -> Vec<Vec<String>> {
    let head = ["NAME", "SOURCE", "BUS", "MODE", "SIZE", "STATE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(facts.vm.spec.disks.iter().map(|disk| row(disk, facts)));
    let firmware = facts.vm.spec.firmware.as_ref();
    if let Some(kernel) = firmware.and_then(|firmware| firmware.kernel.as_ref()) {
        let [source, mode, size, state] = claim(&kernel.claim.name, facts);
        rows.push(vec![
            "(kernel)".to_owned(),
            source,
            "-".to_owned(),
            mode,
            size,
            state,
        ]);
    }
    rows
}

fn row(disk: &Disk, facts: &Facts) -> Vec<String> {
    let dash = || "-".to_owned();
    let vm = facts.vm.metadata.name.as_deref().unwrap_or_default();
    let [source, mode, size, state] = if let Some(name) = disk.claim_name(vm) {
        claim(&name, facts)
    } else if let Some(image) = &disk.image {
        let only_read = coracle_controller::plan::read_only(disk);
        let state = if only_read {
            "stays in the image"
        } else {
            "overlay ends with the pod"
        };
        let size = image.size.as_ref().map_or_else(dash, ToString::to_string);
        let source = format!("image {}", image.reference);
        [source, dash(), size, state.to_owned()]
    } else if let Some(empty) = &disk.ephemeral {
        let state = "ends with the pod".to_owned();
        [
            "ephemeral".to_owned(),
            dash(),
            empty.size.to_string(),
            state,
        ]
    } else {
        let from = disk
            .cloud_init
            .as_ref()
            .and_then(|seed| seed.user_data_from.as_ref());
        let state = from.map_or_else(dash, |from| format!("from Secret {}", from.secret_name));
        ["cloud-init seed".to_owned(), dash(), dash(), state]
    };
    let mut bus = format!("{:?}", disk.bus);
    if disk.read_only {
        bus.push_str(", read-only");
    }
    vec![disk.name.clone(), source, bus, mode, size, state]
}

fn claim(name: &str, facts: &Facts) -> [String; 4] {
    let source = format!("claim {name}");
    let unknown = |state: &str| ["-".to_owned(), "-".to_owned(), state.to_owned()];
    let [mode, size, state] = match facts.claims.get(name) {
        None => unknown("may not be read"),
        Some(None) => unknown("is not there"),
        Some(Some(claim)) => known(claim),
    };
    [source, mode, size, state]
}

/// Volume mode, size, and how the claim stands.
fn known(claim: &PersistentVolumeClaim) -> [String; 3] {
    let spec = claim.spec.clone().unwrap_or_default();
    let status = claim.status.clone().unwrap_or_default();
    let asked = spec.resources.and_then(|resources| resources.requests);
    let size = status.capacity.or(asked);
    let size = size.and_then(|mut size| size.remove("storage"));
    let mut state = status.phase.unwrap_or_else(|| "Pending".to_owned());
    if let Some(volume) = spec.volume_name.filter(|name| !name.is_empty()) {
        state = format!("{state} to {volume}");
    }
    if let Some(class) = spec.storage_class_name.filter(|name| !name.is_empty()) {
        state = format!("{state}, class {class}");
    }
    if let Some(from) = imported(claim) {
        state = format!("{state}, filled from {from}");
    }
    if claim.metadata.deletion_timestamp.is_some() {
        state.push_str(", being deleted");
    }
    [
        spec.volume_mode.unwrap_or_else(|| "Filesystem".to_owned()),
        size.map_or_else(|| "-".to_owned(), |size| size.0),
        state,
    ]
}
