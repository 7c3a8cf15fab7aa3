//! What the API server checks in code for the core kinds, as far as it matters
//! to a VM, and what the documents must have of one another.

use std::collections::BTreeMap;

use coracle_api::vm::VirtualMachine;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::kinds::Kind;
use crate::volume::is_object_name;

/// Where, and what.
pub(super) type Finding = (String, String);

fn finding(path: impl Into<String>, message: impl Into<String>) -> Finding {
    (path.into(), message.into())
}

/// The name of an object of a core kind; a `VirtualMachine`'s has rules of its own.
pub(super) fn check_name(kind: Kind, metadata: &ObjectMeta) -> Option<Finding> {
    match metadata.name.as_deref().unwrap_or_default() {
        "" => Some(finding(
            "metadata.name",
            format!("a {} needs a name", kind.name()),
        )),
        name if !is_object_name(name) => Some(finding(
            "metadata.name",
            format!(
                "{name:?} cannot be a name: lower-case letters, digits, '-' and '.' only, \
                 beginning and ending with a letter or digit"
            ),
        )),
        _ => None,
    }
}

/// A claim says how it may be used and how much it wants.
pub(super) fn check_claim(claim: &PersistentVolumeClaim) -> Vec<Finding> {
    let Some(spec) = &claim.spec else {
        return vec![finding("", "field \"spec\" is missing")];
    };
    let mut findings = Vec::new();
    if spec.access_modes.as_ref().is_none_or(Vec::is_empty) {
        findings.push(finding(
            "spec.accessModes",
            "at least one access mode is required",
        ));
    }
    let requests = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    if requests.is_none_or(|requests| !requests.contains_key("storage")) {
        findings.push(finding(
            "spec.resources.requests",
            "field \"storage\" is missing: say how large the volume is to be, say 10Gi",
        ));
    }
    findings
}

/// Keys of secrets and config maps become file names.
pub(super) fn check_keys<'a>(field: &str, keys: impl Iterator<Item = &'a String>) -> Vec<Finding> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let bad = keys.filter(|key| {
        key.is_empty()
            || key.len() > 253
            || key.starts_with("..")
            || *key == "."
            || !key.bytes().all(plain)
    });
    bad.map(|key| {
        finding(
            format!("{field}[{key:?}]"),
            format!("{key:?} cannot be a key: letters, digits, '-', '_' and '.' only"),
        )
    })
    .collect()
}

/// The claims and secrets that the VM names must be among the documents.
pub(super) fn check_references(
    vm: &VirtualMachine,
    has: impl Fn(Kind, &str) -> bool,
) -> Vec<Finding> {
    let mut named: BTreeMap<String, (Kind, &str)> = BTreeMap::new();
    if let Some(kernel) = vm
        .spec
        .firmware
        .as_ref()
        .and_then(|firmware| firmware.kernel.as_ref())
    {
        let path = "spec.firmware.kernel.claim.name".into();
        named.insert(path, (Kind::PersistentVolumeClaim, &kernel.claim.name));
    }
    for (index, disk) in vm.spec.disks.iter().enumerate() {
        if let Some(claim) = &disk.claim {
            let path = format!("spec.disks[{index}].claim.name");
            named.insert(path, (Kind::PersistentVolumeClaim, &claim.name));
        }
        let secret = disk
            .cloud_init
            .as_ref()
            .and_then(|seed| seed.user_data_from.as_ref());
        if let Some(secret) = secret {
            let path = format!("spec.disks[{index}].cloudInit.userDataFrom.secretName");
            named.insert(path, (Kind::Secret, &secret.secret_name));
        }
    }
    let missing = named
        .into_iter()
        .filter(|(_, (kind, name))| !has(*kind, name));
    missing
        .map(|(path, (kind, name))| {
            let kind = kind.name();
            finding(
                path,
                format!("no manifest has the {kind} {name:?}; add it to the files"),
            )
        })
        .collect()
}
