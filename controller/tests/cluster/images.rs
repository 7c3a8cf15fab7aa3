//! Image volumes, and API servers that take pods without them.

use crate::fixture::{Fixture, object_of};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::post;
use coracle_api::vm::Phase;
use coracle_controller::cluster::apply::keeps_image_volumes;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Config};
use serde_json::{Value, json};

/// What an API server makes of a pod with image volumes.
#[derive(Clone, Copy)]
enum Age {
    /// It has them.
    New,
    /// They are switched off: 1.31 to 1.35.
    Off,
    /// It has never heard of them.
    Old,
    /// It is asked too much: an admission webhook takes no `dryRun`.
    Refuses,
}

async fn create(State(age): State<Age>, uri: Uri, body: String) -> (StatusCode, String) {
    assert!(
        uri.query()
            .is_some_and(|query| query.contains("dryRun=All"))
    );
    let mut pod: Value = serde_json::from_str(&body).expect("a pod");
    let volumes = pod["spec"]["volumes"].as_array_mut().expect("volumes");
    match age {
        Age::New => {}
        Age::Off => volumes.retain(|volume| volume.get("image").is_none()),
        Age::Old => {
            for volume in volumes.iter_mut().filter(|v| v.get("image").is_some()) {
                *volume = json!({"name": volume["name"], "emptyDir": {}});
            }
        }
        Age::Refuses => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                                "message": "does not support dry run", "reason": "BadRequest",
                                "code": 400});
            return (StatusCode::BAD_REQUEST, status.to_string());
        }
    }
    (StatusCode::CREATED, pod.to_string())
}

/// The pods of an API server of that age.
async fn pods(age: Age) -> Api<Pod> {
    let path = "/api/v1/namespaces/shop/pods";
    let server = axum::Router::new()
        .route(path, post(create))
        .with_state(age);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, server).await });
    let url = format!("http://{address}").parse().expect("a URL");
    let client = Client::try_from(Config::new(url)).expect("a client");
    Api::namespaced(client, "shop")
}

fn pod(volumes: &Value) -> Pod {
    object_of(json!({"metadata": {"name": "web-1"},
                     "spec": {"containers": [], "volumes": volumes}}))
}

#[tokio::test]
async fn an_api_server_without_image_volumes_is_found_out_before_a_pod_is_made() {
    let with = json!([{"name": "run", "emptyDir": {}},
                      {"name": "disk-root", "image": {"reference": "a"}}]);
    for (age, keeps) in [
        (Age::New, true),
        (Age::Off, false),
        (Age::Old, false),
        (Age::Refuses, true),
    ] {
        let found = keeps_image_volumes(&pods(age).await, &pod(&with)).await;
        assert_eq!(found.expect("it answers"), keeps);
    }
    // Who has none asks nobody.
    let nobody = Client::try_from(Config::new("http://127.0.0.1:1".parse().expect("a URL")));
    let nobody = Api::namespaced(nobody.expect("a client"), "shop");
    let without = pod(&json!([{"name": "run", "emptyDir": {}}]));
    let found = keeps_image_volumes(&nobody, &without).await;
    assert!(found.expect("there is nothing to ask"));
}

#[tokio::test]
async fn a_vm_with_a_disk_in_an_image_gets_its_pod_from_a_new_api_server() {
    let Some(f) = Fixture::new().await else {
        return;
    };
    let disks = json!([{"name": "root", "image": {"reference": "a.example/vm:1"}}]);
    f.create_vm("web", &json!({"disks": disks})).await;
    f.until_phase("web", Phase::Scheduling).await;
    let pod = f.pods().get("web-1").await.expect("it is made");
    let volumes = pod.spec.and_then(|spec| spec.volumes).unwrap_or_default();
    assert!(volumes.iter().any(|volume| volume.image.is_some()));
}
