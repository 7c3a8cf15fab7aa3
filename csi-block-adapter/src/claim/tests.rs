//! Every plan and every refusal, each by changing one thing of a good claim.

use k8s_openapi::{
    api::core::v1::{
        PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, VolumeResourceRequirements,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::*;

const WANTED: Wanted<'_> = Wanted {
    disk: "root",
    claim: "web-root",
    vm: "web",
    read_only: false,
    shareable: false,
};
const READER: Wanted<'_> = Wanted {
    read_only: true,
    ..WANTED
};
const SHARER: Wanted<'_> = Wanted {
    shareable: true,
    ..WANTED
};

/// A bound block claim of 10 GiB, `ReadWriteOnce`.
fn bound() -> PersistentVolumeClaim {
    let storage = || Some([("storage".to_owned(), Quantity("10Gi".into()))].into());
    let modes = || Some(vec!["ReadWriteOnce".to_owned()]);
    PersistentVolumeClaim {
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: modes(),
            volume_mode: Some("Block".into()),
            volume_name: Some("pv-1".into()),
            storage_class_name: Some("fast".into()),
            resources: Some(VolumeResourceRequirements {
                requests: storage(),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: Some(PersistentVolumeClaimStatus {
            phase: Some("Bound".into()),
            access_modes: modes(),
            capacity: storage(),
            ..PersistentVolumeClaimStatus::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

/// [`bound`], with one thing changed.
fn with(change: impl FnOnce(&mut PersistentVolumeClaim)) -> PersistentVolumeClaim {
    let mut claim = bound();
    change(&mut claim);
    claim
}

fn spec(claim: &mut PersistentVolumeClaim) -> &mut PersistentVolumeClaimSpec {
    claim.spec.as_mut().expect("has a spec")
}

fn status(claim: &mut PersistentVolumeClaim) -> &mut PersistentVolumeClaimStatus {
    claim.status.as_mut().expect("has a status")
}

fn with_mode(mode: &str) -> PersistentVolumeClaim {
    with(|claim| status(claim).access_modes = Some(vec![mode.into()]))
}

fn vm_pod(vm: &str, read_only: bool, shareable: bool) -> Holder {
    Holder {
        pod: format!("{vm}-1"),
        vm: Some(vm.into()),
        read_only,
        shareable,
    }
}

fn importer() -> Holder {
    Holder {
        pod: "importer".into(),
        vm: None,
        read_only: false,
        shareable: false,
    }
}

fn refusal(
    wanted: Wanted<'_>,
    claim: Option<&PersistentVolumeClaim>,
    holders: &[Holder],
) -> (RefusalReason, String) {
    let refusal = plan(&wanted, claim, &StorageFacts::default(), holders).expect_err("is refused");
    (refusal.reason(), refusal.to_string())
}

#[test]
fn a_block_claim_becomes_a_volume_device() {
    let plan = plan(&WANTED, Some(&bound()), &StorageFacts::default(), &[]).expect("is planned");
    assert_eq!(
        json(&plan.volume),
        r#"{"name":"disk-root","persistentVolumeClaim":{"claimName":"web-root"}}"#
    );
    assert_eq!(
        json(block(&plan)),
        r#"{"devicePath":"/dev/coracle/root","name":"disk-root"}"#
    );
    assert_eq!(
        plan.source,
        DiskSource::Block {
            path: "/dev/coracle/root".into()
        }
    );
    assert_eq!(plan.notes, []);
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("serializes")
}

fn block(plan: &ClaimPlan) -> &VolumeDevice {
    match &plan.attachment {
        Attachment::Block(device) => device,
        Attachment::Filesystem { .. } => panic!("{plan:?}"),
    }
}

#[test]
fn a_filesystem_claim_is_mounted_and_leaves_the_file_system_some_room() {
    for mode in [None, Some("Filesystem".to_owned())] {
        let claim = with(|claim| spec(claim).volume_mode = mode);
        let plan = plan(&WANTED, Some(&claim), &StorageFacts::default(), &[]).expect("is planned");
        let Attachment::Filesystem {
            mount,
            capacity_bytes,
        } = plan.attachment
        else {
            panic!("{plan:?}");
        };
        assert_eq!(capacity_bytes, 10 << 30);
        assert_eq!(
            json(&mount),
            r#"{"mountPath":"/var/lib/coracle/disks/root","name":"disk-root"}"#
        );
        assert_eq!(
            plan.source,
            DiskSource::File {
                path: "/var/lib/coracle/disks/root/disk.img".into(),
                create_bytes: Some(9625 << 20),
            }
        );
    }
}

#[test]
fn a_reader_gets_everything_read_only_and_creates_nothing() {
    let claim = with(|claim| spec(claim).volume_mode = None);
    let plan = plan(&READER, Some(&claim), &StorageFacts::default(), &[]).expect("is planned");
    let source = plan.volume.persistent_volume_claim.expect("is a claim");
    assert_eq!(source.read_only, Some(true));
    let Attachment::Filesystem { mount, .. } = plan.attachment else {
        panic!("{:?}", plan.attachment);
    };
    assert_eq!(mount.read_only, Some(true));
    assert!(matches!(
        plan.source,
        DiskSource::File {
            create_bytes: None,
            ..
        }
    ));
}

#[test]
fn a_claim_that_is_not_bound_yet_is_a_note_and_uses_what_it_asks_for() {
    let pending = with(|claim| {
        spec(claim).volume_mode = None;
        *status(claim) = PersistentVolumeClaimStatus {
            phase: Some("Pending".into()),
            ..PersistentVolumeClaimStatus::default()
        };
    });
    let unseen = with(|claim| {
        spec(claim).volume_mode = None;
        claim.status = None;
    });
    for claim in [pending, unseen] {
        let plan = plan(&WANTED, Some(&claim), &StorageFacts::default(), &[]).expect("is planned");
        assert!(matches!(
            plan.attachment,
            Attachment::Filesystem { capacity_bytes, .. } if capacity_bytes == 10 << 30
        ));
        let notes: Vec<_> = plan.notes.iter().map(ToString::to_string).collect();
        assert_eq!(
            notes,
            ["claim \"web-root\" is not bound yet (storage class fast): the pod starts once it is"]
        );
    }
}

#[test]
fn the_vm_s_own_pod_and_those_that_agree_do_not_hold_a_claim() {
    let claim = bound();
    for (wanted, holder) in [
        (WANTED, vm_pod("web", false, false)),
        (SHARER, vm_pod("db", false, true)),
        (READER, vm_pod("db", true, false)),
    ] {
        plan(
            &wanted,
            Some(&claim),
            &StorageFacts::default(),
            std::slice::from_ref(&holder),
        )
        .unwrap_or_else(|refusal| panic!("{holder:?}: {refusal}"));
    }
}

#[test]
fn a_claim_is_in_use_unless_both_sides_share_or_both_only_read() {
    let claim = with_mode("ReadWriteMany");
    for (wanted, holder) in [
        (WANTED, vm_pod("db", false, false)),
        (WANTED, vm_pod("db", true, false)),
        (WANTED, vm_pod("db", false, true)),
        (SHARER, vm_pod("db", false, false)),
        (READER, vm_pod("db", false, false)),
        (WANTED, importer()),
    ] {
        let (reason, _) = refusal(wanted, Some(&claim), &[vm_pod("web", false, false), holder]);
        assert_eq!(reason, RefusalReason::ClaimInUse);
    }
}

#[test]
fn each_refusal_says_what_and_how_to_mend_it() {
    let deleted = with(|claim| {
        claim.metadata.deletion_timestamp =
            Some(serde_json::from_str("\"2026-01-01T00:00:00Z\"").expect("is a time"));
    });
    let lost = with(|claim| status(claim).phase = Some("Lost".into()));
    let mode = with(|claim| spec(claim).volume_mode = Some("Object".into()));
    let filesystem_of = |capacity: &str| {
        with(|claim| {
            spec(claim).volume_mode = None;
            let capacity = Quantity(capacity.into());
            status(claim).capacity = Some([("storage".to_owned(), capacity)].into());
        })
    };
    let refusals = [
        refusal(WANTED, None, &[]),
        refusal(WANTED, Some(&deleted), &[]),
        refusal(WANTED, Some(&lost), &[]),
        refusal(WANTED, Some(&with_mode("ReadOnlyMany")), &[]),
        refusal(
            SHARER,
            Some(&with_mode("ReadWriteOncePod")),
            &[vm_pod("db", false, true)],
        ),
        refusal(WANTED, Some(&bound()), &[vm_pod("db", false, false)]),
        refusal(WANTED, Some(&bound()), &[importer()]),
        refusal(WANTED, Some(&mode), &[]),
        refusal(WANTED, Some(&filesystem_of("ten")), &[]),
        refusal(WANTED, Some(&filesystem_of("1Mi")), &[]),
    ];
    let text = refusals
        .map(|(reason, message)| format!("{reason}: {message}"))
        .join("\n");
    insta::assert_snapshot!(text, @r#"
    ClaimNotFound: claim "web-root" of disk "root" does not exist: create it in the namespace of VM "web", or correct claim.name
    ClaimBeingDeleted: claim "web-root" is being deleted and takes no new pod: give VM "web" another claim, or create it anew once it is gone
    ClaimLost: claim "web-root" has lost its volume "pv-1": restore the PersistentVolume, or give VM "web" another claim
    AccessModeForbidsWrite: claim "web-root" is ReadOnlyMany, and disk "root" of VM "web" is writable: set readOnly: true on the disk, or use a claim with ReadWriteOnce
    AccessModeForbidsSharing: claim "web-root" is ReadWriteOncePod and VM "db" (pod "db-1") has it: stop that one before VM "web", or use a claim with ReadWriteMany
    ClaimInUse: claim "web-root" is in use by VM "db" (pod "db-1"): stop that one first, or, where both guests can share a disk, set shareable: true on disk "root" of VM "web" and on the other's
    ClaimInUse: claim "web-root" is in use by pod "importer": VM "web" can have it for disk "root" once that pod has ended
    VolumeModeUnknown: claim "web-root" has volumeMode "Object": VM "web" needs a claim with Block or Filesystem
    ClaimCapacityUnknown: the storage capacity of claim "web-root" cannot be read ("ten"): set resources.requests.storage to a number of bytes such as 10Gi for VM "web"
    ClaimTooSmall: claim "web-root" has 1048576 bytes, which is too small for a disk image of VM "web": use a claim of 2Mi at least
    "#);
}

#[test]
fn a_refusal_s_word_is_the_same_in_json_and_in_text_and_in_the_guide() {
    let guide = include_str!("../../../docs/operations.md");
    for reason in [
        RefusalReason::ClaimNotFound,
        RefusalReason::ClaimBeingDeleted,
        RefusalReason::ClaimLost,
        RefusalReason::AccessModeForbidsWrite,
        RefusalReason::AccessModeForbidsSharing,
        RefusalReason::ClaimInUse,
        RefusalReason::VolumeModeUnknown,
        RefusalReason::ClaimCapacityUnknown,
        RefusalReason::ClaimTooSmall,
    ] {
        assert_eq!(
            serde_json::to_string(&reason).expect("serializes"),
            format!("\"{reason}\"")
        );
        assert!(
            guide.contains(&format!("| `{reason}` |")),
            "docs/operations.md has no row for the reason {reason}: add one"
        );
    }
}

#[test]
fn an_image_is_a_whole_number_of_mebibytes_below_the_capacity() {
    for (capacity, image) in [
        (0, 0),
        (1 << 20, 0),
        (2 << 20, 1 << 20),
        (100 << 20, 94 << 20),
        (u64::MAX, 0),
    ] {
        let bytes = image_bytes(capacity);
        assert!(bytes <= capacity && bytes.is_multiple_of(IMAGE_UNIT));
        if capacity != u64::MAX {
            assert_eq!(bytes, image, "{capacity}");
        }
    }
}
