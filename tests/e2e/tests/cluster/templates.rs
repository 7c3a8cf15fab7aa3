//! Claims that the controller makes from a VM's templates.

use coracle_api::vm::Phase;
use coracle_e2e::{BlockVolume, Cluster, Machine, Namespace, vm_object, wait_for};
use serde_json::{Value, json};

fn template(when_deleted: &str) -> Value {
    // No class: it binds to the static volume that waits for it.
    let template = json!({"size": "1Mi", "storageClassName": "", "whenDeleted": when_deleted});
    json!({"disks": [{"name": "root", "bootOrder": 1, "claimTemplate": template}]})
}

#[tokio::test]
async fn a_guest_boots_from_the_claim_made_for_it_which_goes_or_stays_with_its_vm()
-> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(node) = cluster.node_with_controller().await? else {
        return Ok(());
    };
    for when_deleted in ["Retain", "Delete"] {
        let namespace = Namespace::new(&cluster).await?;
        let _volume =
            BlockVolume::without_claim(&node, &namespace, "web-root", "power-button").await?;
        let vm = vm_object("web", template(when_deleted));
        let vm = Machine::apply(&cluster, &namespace, &vm).await?;
        let pod = vm.runs(1).await?;
        pod.says("guest ready").await?;
        let status = vm.phase_is(Phase::Running).await?;
        let disk = status.disks.first().map(|disk| disk.claim.as_str());
        assert_eq!(disk, Some("web-root"));
        vm.delete(&pod).await?;
        let claims = namespace.claims();
        if when_deleted == "Delete" {
            wait_for(&claims, "web-root", "gone with its VM", |claim| {
                claim.is_none()
            })
            .await?;
        } else {
            let kept = claims.get("web-root").await?;
            assert!(kept.metadata.deletion_timestamp.is_none());
            assert!(kept.metadata.owner_references.is_none());
        }
    }
    Ok(())
}
