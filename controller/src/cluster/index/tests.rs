use serde_json::{Value, json};

use k8s_openapi::api::core::v1::Container;

use super::*;
use crate::cluster::testing::{at, pod};

fn web() -> Owner {
    Owner {
        vm: "web".into(),
        uid: "u".into(),
    }
}

fn holding(name: &str, owner: Option<(&str, &str)>, claim: &str, status: &Value) -> Pod {
    let owners = owner.map(|(vm, uid)| {
        json!([{"apiVersion": "coracle.dev/v1alpha1", "kind": "VirtualMachine", "name": vm,
                "uid": uid, "controller": true}])
    });
    pod(json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "ownerReferences": owners},
        "spec": {"containers": [{"name": "vm"}],
                 "volumes": [{"name": "disk-root", "persistentVolumeClaim": {"claimName": claim}}]},
        "status": status
    }))
}

fn listed(pods: Vec<Pod>) -> PodIndex {
    let index = PodIndex::default();
    index.apply(&Event::Init);
    for pod in pods {
        index.apply(&Event::InitApply(pod));
    }
    index.apply(&Event::InitDone);
    index
}

fn names_of(index: &PodIndex, claim: &str) -> Vec<(String, Option<String>)> {
    let holders = index.holders("shop", claim, &web(), at(0));
    holders
        .into_iter()
        .map(|holder| (holder.pod, holder.vm))
        .collect()
}

#[test]
fn holders_are_all_that_use_a_claim_but_the_vms_own_pods() {
    let live = json!({"phase": "Running"});
    let done = json!({"phase": "Succeeded"});
    let index = listed(vec![
        holding("web-1", Some(("web", "u")), "data", &live),
        holding("db-4", Some(("db", "v")), "data", &live),
        holding("importer", None, "data", &live),
        holding("finished", None, "data", &done),
        // Of an earlier VM of the same name: somebody else.
        holding("web-9", Some(("web", "old")), "data", &live),
        // Claims to be the VM's, under a name that the VM's pods never have.
        holding("trojan", Some(("web", "u")), "data", &live),
        holding("elsewhere", None, "other", &live),
    ]);
    let wanted: Vec<(String, Option<String>)> = [
        ("db-4", Some("db")),
        ("importer", None),
        ("trojan", None),
        ("web-9", None),
    ]
    .map(|(pod, vm)| (pod.to_owned(), vm.map(str::to_owned)))
    .into();
    assert_eq!(names_of(&index, "data"), wanted);
    let own: Vec<String> = index
        .of("shop", &web(), at(0))
        .iter()
        .map(|p| p.name.clone())
        .collect();
    assert_eq!(own, ["web-1"]);
}

#[test]
fn a_pod_that_ends_or_goes_lets_go_of_its_claim() {
    let index = listed(vec![]);
    assert!(index.is_empty());
    let live = holding("importer", None, "data", &json!({"phase": "Running"}));
    index.apply(&Event::Apply(live.clone()));
    assert_eq!(names_of(&index, "data").len(), 1);
    index.apply(&Event::Apply(holding(
        "importer",
        None,
        "data",
        &json!({"phase": "Failed"}),
    )));
    assert!(names_of(&index, "data").is_empty());
    index.apply(&Event::Apply(live.clone()));
    index.apply(&Event::Delete(live));
    assert!(index.is_empty(), "nothing is left behind");
}

#[test]
fn of_two_that_plan_on_one_claim_the_second_is_told() {
    let index = listed(vec![]);
    let nobody = || HashMap::from([("data".to_owned(), vec![])]);
    let mine = holding("web-1", Some(("web", "u")), "data", &json!({}));
    let theirs = holding("db-1", Some(("db", "v")), "data", &json!({}));
    index.reserve(&mine, &nobody(), at(0)).expect("it is free");
    index
        .reserve(&mine, &nobody(), at(1))
        .expect("to itself it stays free");
    assert_eq!(index.reserve(&theirs, &nobody(), at(0)), Err(ClaimsMoved));
    // The first is refused by the API server: the claim is free again.
    index.give_up("shop", "web-1");
    index
        .reserve(&theirs, &nobody(), at(0))
        .expect("it is free again");
}

#[test]
fn a_reserved_pod_is_no_pod_of_the_vm_until_it_was_created() {
    let index = listed(vec![]);
    let mut mine = holding("web-1", Some(("web", "u")), "data", &json!({}));
    let uid = mine.metadata.uid.take();
    let nobody = HashMap::from([("data".to_owned(), vec![])]);
    index.reserve(&mine, &nobody, at(0)).expect("it is free");
    assert!(index.of("shop", &web(), at(0)).is_empty());
    mine.metadata.uid = uid;
    index.created(&mine, at(0));
    assert_eq!(index.of("shop", &web(), at(0)).len(), 1);
}

#[test]
fn what_was_just_made_outlives_a_list_but_not_for_ever() {
    let index = listed(vec![]);
    let mine = holding("web-1", Some(("web", "u")), "data", &json!({}));
    index.created(&mine, at(0));
    index.apply(&Event::Init);
    index.apply(&Event::InitDone);
    assert_eq!(index.of("shop", &web(), at(59)).len(), 1);
    assert_eq!(
        index.of("shop", &web(), at(61)).len(),
        0,
        "the watch never showed it"
    );
    // Once the watch has shown it, it is as real as any.
    index.apply(&Event::Apply(mine.clone()));
    assert_eq!(index.of("shop", &web(), at(1000)).len(), 1);
    index.give_up("shop", "web-1");
    assert_eq!(index.of("shop", &web(), at(1000)).len(), 1);
}

#[test]
fn a_claim_that_a_disk_was_filled_from_is_let_go_when_the_disk_is() {
    let index = listed(vec![]);
    let holds = |owner: Option<(&str, &str)>, state: &Value, in_vm: bool| {
        let importer = json!({"name": "import-root", "ready": false, "restartCount": 0,
                              "image": "", "imageID": "", "state": state});
        let status = json!({"phase": "Pending", "initContainerStatuses": [importer]});
        let mut pod = holding("db-1", owner, "golden", &status);
        let spec = pod.spec.as_mut().expect("a spec");
        let device = json!({"name": "import-root",
                            "volumeDevices": [{"name": "disk-root", "devicePath": "/dev/x"}]});
        let device: Container = serde_json::from_value(device).expect("a container");
        if in_vm {
            spec.containers[0]
                .volume_devices
                .clone_from(&device.volume_devices);
        }
        spec.init_containers = Some(vec![device]);
        index.apply(&Event::Apply(pod));
        !names_of(&index, "golden").is_empty()
    };
    let db = Some(("db", "v"));
    let (failed, done) = (
        json!({"terminated": {"exitCode": 1}}),
        json!({"terminated": {"exitCode": 0}}),
    );
    for busy in [json!({}), json!({"running": {}}), failed] {
        assert!(holds(db, &busy, false), "{busy}");
    }
    assert!(!holds(db, &done, false));
    assert!(holds(db, &done, true), "the guest has it as well");
    assert!(holds(None, &done, false), "of others Kubernetes knows best");
}
