use super::*;

fn vm(template: &Value) -> VirtualMachine {
    serde_json::from_value(json!({
        "apiVersion": "coracle.dev/v1alpha1", "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
        "spec": {"memory": "1Gi", "disks": [{"name": "root", "claimTemplate": template}]}
    }))
    .expect("a VM")
}

/// The VM's claim as a storage driver bound it, with changes.
fn bound(vm: &VirtualMachine, change: Value) -> PersistentVolumeClaim {
    let disk = &vm.spec.disks[0];
    let template = disk.claim_template.as_ref().expect("it has one");
    let mut made = serde_json::to_value(claim(vm, disk, template)).expect("JSON");
    made["metadata"]["uid"] = "c".into();
    made["metadata"]["resourceVersion"] = "7".into();
    made["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    json_patch_merge(&mut made, change);
    serde_json::from_value(made).expect("a claim")
}

fn json_patch_merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                json_patch_merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

fn observed(claim: PersistentVolumeClaim, expandable: bool) -> Observed {
    let class = json!({"metadata": {"name": "fast"}, "provisioner": "d",
                       "allowVolumeExpansion": expandable});
    let class = serde_json::from_value(class).expect("a class");
    let class = coracle_block::claim::ClassFacts::of(&class);
    let storage = StorageFacts {
        class: ClassKnown::Known(class.into()),
        ..StorageFacts::default()
    };
    Observed {
        claims: [("web-root".to_owned(), claim)].into(),
        storage: [("web-root".to_owned(), storage)].into(),
        ..Observed::default()
    }
}

#[test]
fn a_template_becomes_a_claim() {
    let vm = vm(&json!({
        "size": "10Gi", "storageClassName": "fast", "whenDeleted": "Delete",
        "accessModes": ["ReadWriteMany"],
        "dataSource": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"}
    }));
    let [ClaimAct::Create(made)] = &due(&vm, &Observed::default())[..] else {
        panic!("it is to be made");
    };
    insta::assert_snapshot!(serde_yaml_ng::to_string(made).expect("YAML"));
}

#[test]
fn a_claim_that_is_kept_has_no_owner_and_serves_the_next_vm_of_the_name() {
    let first = vm(&json!({"size": "1Gi"}));
    let made = bound(&first, json!({}));
    assert_eq!(made.metadata.owner_references, None);
    let mut second = first.clone();
    second.metadata.uid = Some("another".into());
    let disk = &second.spec.disks[0];
    assert_eq!(check(&second, disk, "web-root", Some(&made)), Ok(()));
    assert_eq!(due(&second, &observed(made, true)), []);
}

#[test]
fn a_claim_of_somebody_else_is_never_used_and_never_changed() {
    let vm = vm(&json!({"size": "2Gi", "whenDeleted": "Delete"}));
    let owner = |name: &str| {
        json!([{"apiVersion": "coracle.dev/v1alpha1", "kind": "VirtualMachine",
                "name": name, "uid": "x"}])
    };
    for (change, says) in [
        (
            json!({"metadata": {"labels": null, "ownerReferences": null}}),
            "kubectl label pvc web-root",
        ),
        (
            json!({"metadata": {"labels": {"coracle.dev/vm": "a", "coracle.dev/disk": "b"}}}),
            "disk \"b\" of VM \"a\"",
        ),
        (
            json!({"metadata": {"ownerReferences": owner("web")}}),
            "earlier VM of this name",
        ),
        (
            json!({"metadata": {"ownerReferences": owner("db")}}),
            "belongs to VM \"db\"",
        ),
    ] {
        let foreign = bound(&vm, change);
        let refusal = check(&vm, &vm.spec.disks[0], "web-root", Some(&foreign));
        let text = refusal.expect_err("it is not the VM's").to_string();
        assert!(text.contains(says) && text.contains("web-root"), "{text}");
        assert_eq!(due(&vm, &observed(foreign, true)), [], "{text}");
    }
}

#[test]
fn a_larger_template_grows_the_claim_where_the_class_allows_it() {
    let small = vm(&json!({"size": "1Gi"}));
    let found = bound(&small, json!({}));
    let large = vm(&json!({"size": "2Gi"}));
    let [ClaimAct::Change { claim, patch }] = &due(&large, &observed(found.clone(), true))[..]
    else {
        panic!("it is to grow");
    };
    assert_eq!(claim, "web-root");
    assert_eq!(
        *patch,
        json!({"metadata": {"uid": "c", "resourceVersion": "7"},
               "spec": {"resources": {"requests": {"storage": "2Gi"}}}})
    );
    assert_eq!(due(&large, &observed(found.clone(), false)), []);
    let (disk, sized) = &sizes(&large, &observed(found, false))[0];
    assert_eq!(disk, "root");
    assert!(matches!(sized, Sized::Forbidden(why) if why.contains("allowVolumeExpansion")));

    let asked = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}},
        "status": {"conditions": [{"type": "FileSystemResizePending", "status": "True",
                                   "message": "waiting for the node"}]}});
    let asked = observed(bound(&small, asked), true);
    assert_eq!(due(&large, &asked), []);
    assert!(
        matches!(&sizes(&large, &asked)[0].1, Sized::Growing(why) if why.contains("waiting for the node"))
    );
    let grown = json!({"status": {"capacity": {"storage": "2Gi"}}});
    assert_eq!(
        sizes(&large, &observed(bound(&small, grown), true))[0].1,
        Sized::Fits
    );
    let unbound = observed(bound(&small, json!({"status": {"phase": "Pending"}})), true);
    assert_eq!(
        due(&large, &unbound),
        [],
        "an unbound claim cannot be changed"
    );
}

#[test]
fn whether_a_claim_goes_with_the_vm_can_be_changed() {
    let kept = vm(&json!({"size": "1Gi"}));
    let goes = vm(&json!({"size": "1Gi", "whenDeleted": "Delete"}));
    let [ClaimAct::Change { patch, .. }] =
        &due(&goes, &observed(bound(&kept, json!({})), true))[..]
    else {
        panic!("it gets an owner");
    };
    assert_eq!(patch["metadata"]["ownerReferences"][0]["uid"], "u");
    let [ClaimAct::Change { patch, .. }] =
        &due(&kept, &observed(bound(&goes, json!({})), true))[..]
    else {
        panic!("it loses its owner");
    };
    assert_eq!(patch["metadata"]["ownerReferences"], json!([]));
}
