//! Two replicas: one leads, the other takes over.

use std::time::Duration;

use coracle_api::vm::Phase;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;

use crate::fixture::{Fixture, PATIENCE, SYSTEM, prepare, replica, until};
use crate::node::Node;
use crate::program::Program;
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_dies_the_other_takes_over_and_makes_no_second_pod() {
    let server = match Server::start() {
        Ok(server) => server,
        Err(why) => {
            eprintln!("skipped: the controller's election test: {why}");
            return;
        }
    };
    // Both replicas borrow it until the test ends.
    let server: &'static Server = Box::leak(Box::new(server));
    prepare(server).await;
    let f = Fixture::on(server).await;
    let leases: Api<Lease> = Api::namespaced(f.client.clone(), SYSTEM);
    let led_by = |name: &'static str| {
        move |lease: &Lease| {
            let spec = lease.spec.as_ref();
            spec.and_then(|spec| spec.holder_identity.as_deref()) == Some(name)
        }
    };
    let first = tokio::spawn(replica(server, "first"));
    until(&leases, "coracle-controller", "leader", led_by("first")).await;
    let second = tokio::spawn(replica(server, "second"));

    f.create_vm("web", &json!({})).await;
    f.until_pod("web-1").await;
    // It dies with the VM half started, and gives nothing up.
    first.abort();
    Node(f.pods()).run("web-1").await;
    until(&leases, "coracle-controller", "leader", led_by("second")).await;
    let status = f.until_phase("web", Phase::Running).await;
    assert_eq!(status.incarnation, Some(1));
    assert_eq!(f.pod_names().await, ["web-1"]);
    let created = f.server.writes(&f.namespace);
    let created = created.iter().filter(|write| *write == "create pods");
    assert_eq!(created.count(), 1);

    // What the new leader has to do it does.
    f.patch_vm("web", json!({"spec": {"runPolicy": "Halted"}}))
        .await;
    f.until_deleting("web-1").await;
    f.until_phase("web", Phase::Stopping).await;
    assert!(!second.is_finished());
    second.abort();

    // The program itself, stopped as a Deployment stops it, hands over.
    let kubeconfig = server.kubeconfig();
    let mut program = Program::start(&kubeconfig);
    until(&leases, "coracle-controller", "leader", led_by("third")).await;
    let leads = async {
        while program.get("/readyz").await != "leading\n" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let leads = tokio::time::timeout(PATIENCE, leads).await;
    leads.expect("it has listed everything");
    assert_eq!(program.get("/healthz").await, "ok\n");
    let metrics = program.get("/metrics").await;
    for line in ["coracle_leader 1", "coracle_vms{phase=\"Stopping\"} 1"] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    program.terminate().await;
    until(&leases, "coracle-controller", "nobody", led_by("")).await;
}
