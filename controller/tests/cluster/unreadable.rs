//! A VM of a newer version of the custom resource, after a roll-back.

use coracle_api::vm::Phase;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, Resource};
use serde_json::json;

use coracle_api::vm::VirtualMachine;

use crate::fixture::{Fixture, PATIENCE, object_of};

const NEW_WORD: &str = "Sometimes";

#[tokio::test]
async fn a_vm_that_cannot_be_read_is_left_as_it_is_and_holds_up_no_other() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    f.create_vm("web", &json!({})).await;
    f.until_pod("web-1").await;
    know_the_new_word(&f).await;
    let resource = ApiResource::erase::<VirtualMachine>(&());
    let vms: Api<DynamicObject> = Api::namespaced_with(f.client.clone(), &f.namespace, &resource);
    let policy = |word: &str| Patch::Merge(json!({"spec": {"runPolicy": word}}));
    let params = PatchParams::default();
    vms.patch("web", &params, &policy(NEW_WORD))
        .await
        .expect("taken");

    let event = told_of(&f, "Unreadable").await;
    let note = event.note.unwrap_or_default();
    assert!(
        note.contains(NEW_WORD) && note.contains("upgrade"),
        "{note}"
    );
    f.create_vm("other", &json!({})).await;
    f.until_pod("other-1").await;
    assert_eq!(f.pod_names().await, ["other-1", "web-1"], "web runs on");

    vms.patch("web", &params, &policy("Halted"))
        .await
        .expect("taken");
    f.until_deleting("web-1").await;
    f.until_phase("other", Phase::Scheduling).await;
}

/// The definition, as a newer version would have it.
async fn know_the_new_word(f: &Fixture) {
    let definitions: Api<CustomResourceDefinition> = Api::all(f.client.clone());
    let name = "virtualmachines.coracle.dev";
    let definition = definitions.get(name).await.expect("the definition");
    let mut versions = json!(definition.spec.versions);
    let spec = &mut versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let words = spec["properties"]["runPolicy"]["enum"].as_array_mut();
    words.expect("run policies").push(json!(NEW_WORD));
    let patch = Patch::Merge(json!({"spec": {"versions": versions}}));
    let patched = definitions
        .patch(name, &PatchParams::default(), &patch)
        .await;
    patched.expect("the definition takes a new word");
    // The API server takes it up a moment later.
    let taken = async {
        let vm = json!({
            "apiVersion": VirtualMachine::api_version(&()), "kind": VirtualMachine::kind(&()),
            "metadata": {"name": "probe"},
            "spec": {"runPolicy": NEW_WORD, "memory": "64Mi",
                     "disks": [{"name": "root", "ephemeral": {"size": "64Mi"}}]}
        });
        let resource = ApiResource::erase::<VirtualMachine>(&());
        let vms: Api<DynamicObject> =
            Api::namespaced_with(f.client.clone(), &f.namespace, &resource);
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        while vms.create(&dry, &object_of(vm.clone())).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken)
        .await
        .expect("in time");
}

async fn told_of(f: &Fixture, reason: &str) -> Event {
    let events: Api<Event> = Api::namespaced(f.client.clone(), &f.namespace);
    let told = async {
        loop {
            let all = events.list(&ListParams::default()).await.expect("a list");
            let found = all
                .items
                .into_iter()
                .find(|event| event.reason.as_deref() == Some(reason));
            if let Some(event) = found {
                break event;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told)
        .await
        .expect("an event in time")
}
