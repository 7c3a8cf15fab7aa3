//! Claims made from a VM's templates: what each looks like, whose a claim of
//! that name is, and what is to be done about it.
//!
//! What must never happen: a claim that is not the VM's is used, or changed; a
//! claim is deleted. Whether it goes with the VM is the garbage collector's
//! matter, by an owner reference.

use std::collections::BTreeMap;

use coracle_api::names::{GROUP, LABEL_DISK, LABEL_VM, VERSION};
use coracle_api::vm::{ClaimTemplate, Disk, VirtualMachine, WhenDeleted};
use coracle_block::claim::{ClaimRefusal, ClassKnown, StorageFacts, quantity_bytes};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use crate::plan::Observed;

/// What is to be done about a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimAct {
    /// It is to be made.
    Create(Box<PersistentVolumeClaim>),
    /// It is to be changed, if it is still the one that was judged.
    Change {
        /// Its name.
        claim: String,
        /// A merge patch.
        patch: Value,
    },
}

/// Whether a claim is as large as its template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sized {
    /// It is, or larger.
    Fits,
    /// It will be: what is waited for.
    Growing(String),
    /// It never will be: why.
    Forbidden(String),
}

/// The claim of a disk with a template.
#[must_use]
pub fn claim(vm: &VirtualMachine, disk: &Disk, template: &ClaimTemplate) -> PersistentVolumeClaim {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let modes = template.access_modes.iter().map(|mode| format!("{mode:?}"));
    let owner = owner(vm).filter(|_| template.when_deleted == WhenDeleted::Delete);
    let text = |text: &str| text.to_owned();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: disk.claim_name(name),
            namespace: vm.metadata.namespace.clone(),
            labels: Some(BTreeMap::from([
                (text(LABEL_VM), text(name)),
                (text(LABEL_DISK), disk.name.clone()),
                (text("app.kubernetes.io/managed-by"), text("coracle")),
            ])),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(modes.collect()),
            volume_mode: Some(format!("{:?}", template.volume_mode)),
            storage_class_name: template.storage_class_name.clone(),
            data_source: template.data_source.clone(),
            data_source_ref: template.data_source_ref.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([(text("storage"), Quantity(template.size.0.clone()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// The VM as an owner, once it has a uid.
pub(crate) fn owner(vm: &VirtualMachine) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: "VirtualMachine".into(),
        name: vm.metadata.name.clone()?,
        uid: vm.metadata.uid.clone()?,
        controller: Some(true),
        block_owner_deletion: Some(true),
    })
}

/// Whether the claim that a template names is there and the VM's.
///
/// # Errors
/// It is not there, or belongs to somebody else.
pub fn check(
    vm: &VirtualMachine,
    disk: &Disk,
    claim_name: &str,
    found: Option<&PersistentVolumeClaim>,
) -> Result<(), ClaimRefusal> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let Some(found) = found else {
        return Err(ClaimRefusal::NotMade {
            claim: claim_name.to_owned(),
            disk: disk.name.clone(),
            vm: name.to_owned(),
        });
    };
    let refused = |whose: String| {
        Err(ClaimRefusal::NotOwned {
            claim: claim_name.to_owned(),
            disk: disk.name.clone(),
            vm: name.to_owned(),
            whose,
        })
    };
    let label = |key: &str| Some(found.metadata.labels.as_ref()?.get(key)?.as_str());
    if let Some(owner) = vm_owner(found)
        && vm.metadata.uid.as_deref() != Some(owner.uid.as_str())
    {
        return refused(if owner.name == name {
            "that one belongs to an earlier VM of this name and is deleted with it: wait until it \
             is gone"
                .to_owned()
        } else {
            format!(
                "that one belongs to VM {:?}: rename the disk or the VM",
                owner.name
            )
        });
    }
    match (label(LABEL_VM), label(LABEL_DISK)) {
        (Some(vm), Some(of)) if (vm, of) == (name, disk.name.as_str()) => Ok(()),
        (Some(vm), Some(of)) => refused(format!(
            "that one is disk {of:?} of VM {vm:?}: rename the disk or the VM"
        )),
        _ => refused(format!(
            "that one is not the VM's: rename the disk, or, if the VM is to have it with all that \
             is on it, say so: kubectl label pvc {claim_name} {LABEL_VM}={name} {LABEL_DISK}={}",
            disk.name
        )),
    }
}

fn vm_owner(claim: &PersistentVolumeClaim) -> Option<&OwnerReference> {
    let owners = claim.metadata.owner_references.as_deref()?;
    let group = |owner: &&OwnerReference| {
        owner.kind == "VirtualMachine" && owner.api_version.split('/').next() == Some(GROUP)
    };
    owners.iter().find(group)
}

/// Everything that is to be done about a VM's claims.
#[must_use]
pub fn due(vm: &VirtualMachine, observed: &Observed) -> Vec<ClaimAct> {
    templates(vm)
        .filter_map(|(disk, template, name)| {
            let Some(found) = observed.claims.get(&name) else {
                return Some(ClaimAct::Create(Box::new(claim(vm, disk, template))));
            };
            check(vm, disk, &name, Some(found)).ok()?;
            let storage = observed.storage.get(&name).cloned().unwrap_or_default();
            change(vm, template, &name, found, &storage)
        })
        .collect()
}

/// Whether each claim from a template is as large as that says, by disk.
#[must_use]
pub fn sizes(vm: &VirtualMachine, observed: &Observed) -> Vec<(String, Sized)> {
    templates(vm)
        .filter_map(|(disk, template, name)| {
            let found = observed.claims.get(&name)?;
            let storage = observed.storage.get(&name).cloned().unwrap_or_default();
            let name = disk.name.clone();
            Some((name, sized(template, found, &storage)))
        })
        .collect()
}

fn templates(vm: &VirtualMachine) -> impl Iterator<Item = (&Disk, &ClaimTemplate, String)> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let disks = vm.spec.disks.iter();
    disks
        .filter_map(move |disk| Some((disk, disk.claim_template.as_ref()?, disk.claim_name(name)?)))
}

fn change(
    vm: &VirtualMachine,
    template: &ClaimTemplate,
    name: &str,
    found: &PersistentVolumeClaim,
    storage: &StorageFacts,
) -> Option<ClaimAct> {
    if found.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let mut metadata = json!({
        "uid": found.metadata.uid,
        "resourceVersion": found.metadata.resource_version,
    });
    let mut patch = json!({});
    let owned = vm_owner(found).is_some();
    if owned != (template.when_deleted == WhenDeleted::Delete) {
        let owners = found.metadata.owner_references.clone().unwrap_or_default();
        let others = owners.into_iter().filter(|o| Some(o) != vm_owner(found));
        let ours = owner(vm).filter(|_| !owned);
        metadata["ownerReferences"] = json!(others.chain(ours).collect::<Vec<_>>());
    }
    let grows = requested(found) < template.size.bytes() && bound(found);
    if grows && expandable(storage) {
        patch["spec"] = json!({"resources": {"requests": {"storage": template.size.0}}});
    }
    if metadata.get("ownerReferences").is_none() && patch.get("spec").is_none() {
        return None;
    }
    patch["metadata"] = metadata;
    let claim = name.to_owned();
    Some(ClaimAct::Change { claim, patch })
}

fn sized(template: &ClaimTemplate, found: &PersistentVolumeClaim, storage: &StorageFacts) -> Sized {
    let wanted = template.size.bytes();
    let name = found.metadata.name.as_deref().unwrap_or_default();
    if !bound(found) || capacity(found) >= wanted {
        return Sized::Fits;
    }
    if requested(found) < wanted && !expandable(storage) {
        let class = match &storage.class {
            ClassKnown::Known(class) => format!(
                "storage class {:?} does not set allowVolumeExpansion: true",
                class.name
            ),
            ClassKnown::Missing | ClassKnown::Unasked => {
                "it has no storage class, and only classes allow expansion".to_owned()
            }
        };
        return Sized::Forbidden(format!(
            "claim {name:?} stays smaller than {}: {class}",
            template.size
        ));
    }
    let status = found.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let said = conditions
        .unwrap_or_default()
        .iter()
        .filter(|condition| condition.status == "True")
        .find_map(|condition| condition.message.clone().filter(|text| !text.is_empty()));
    let said = said.unwrap_or_else(|| "the storage driver has not answered yet".to_owned());
    Sized::Growing(format!("claim {name:?} grows to {}: {said}", template.size))
}

fn bound(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    status.and_then(|status| status.phase.as_deref()) == Some("Bound")
}

fn expandable(storage: &StorageFacts) -> bool {
    matches!(&storage.class, ClassKnown::Known(class) if class.expandable)
}

fn requested(claim: &PersistentVolumeClaim) -> Option<u64> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    quantity_bytes(&resources.requests.as_ref()?.get("storage")?.0)
}

fn capacity(claim: &PersistentVolumeClaim) -> Option<u64> {
    let capacity = claim.status.as_ref()?.capacity.as_ref()?;
    quantity_bytes(&capacity.get("storage")?.0)
}

#[cfg(test)]
mod tests;
