//! A namespace of its own for each test, and one controller for all.

use std::fmt::Debug;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use coracle_api::vm::{ConditionType, Phase, VirtualMachine, VirtualMachineStatus};
use coracle_controller::cluster::lease::Election;
use coracle_controller::cluster::metrics::Metrics;
use coracle_controller::cluster::{self, Options, status};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, CustomResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::server::{Server, Who};

/// A state that takes longer than this does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Namespace of the lease.
pub(crate) const SYSTEM: &str = "coracle-system";

/// What one test works with.
pub(crate) struct Fixture {
    pub(crate) server: &'static Server,
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Fixture {
    /// A namespace on the shared server, or `None` after saying why not.
    pub(crate) async fn new() -> Option<Self> {
        static SHARED: OnceLock<Result<Server, String>> = OnceLock::new();
        static CONTROLLER: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
        let server = match SHARED.get_or_init(Server::start) {
            Ok(server) => server,
            Err(why) => {
                eprintln!("skipped: the controller's cluster tests: {why}");
                return None;
            }
        };
        CONTROLLER
            .get_or_init(async || {
                prepare(server).await;
                // It outlives the runtime of the test that came first.
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                    let ended = runtime.block_on(replica(server, "shared"));
                    panic!("the controller ended: {ended:?}");
                });
            })
            .await;
        Some(Self::on(server).await)
    }

    /// A namespace on a server.
    pub(crate) async fn on(server: &'static Server) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("test-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let client = server.client(Who::Admin);
        make_namespace(&client, &namespace).await;
        Self {
            server,
            client,
            namespace,
        }
    }

    pub(crate) fn vms(&self) -> Api<VirtualMachine> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a VM with an ephemeral disk, changed by `spec`.
    pub(crate) async fn create_vm(&self, name: &str, spec: &Value) -> VirtualMachine {
        let mut full = json!({
            "accelerator": "Emulation",
            "memory": "64Mi",
            "disks": [{"name": "root", "ephemeral": {"size": "64Mi"}}]
        });
        let object = full.as_object_mut().expect("an object");
        object.extend(spec.as_object().expect("an object").clone());
        let vm = object_of(json!({
            "apiVersion": "coracle.dev/v1alpha1",
            "kind": "VirtualMachine",
            "metadata": {"name": name},
            "spec": full
        }));
        let created = self.vms().create(&PostParams::default(), &vm).await;
        created.expect("the API server takes the VM")
    }

    /// Changes a VM as `kubectl patch --type=merge` does.
    pub(crate) async fn patch_vm(&self, name: &str, patch: Value) {
        let patched = self
            .vms()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        patched.expect("the API server takes the change");
    }

    /// Creates a claim as a storage driver would have bound it, or not.
    pub(crate) async fn create_claim(&self, name: &str, phase: &str) {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &self.namespace);
        let claim = object_of(json!({
            "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
                     "storageClassName": "tests",
                     "resources": {"requests": {"storage": "1Gi"}}}
        }));
        let created = api.create(&PostParams::default(), &claim).await;
        created.expect("the API server takes the claim");
        self.bind_claim(name, phase).await;
    }

    pub(crate) async fn bind_claim(&self, name: &str, phase: &str) {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &self.namespace);
        let status = json!({"status": {"phase": phase, "accessModes": ["ReadWriteOnce"],
                                       "capacity": {"storage": "1Gi"}}});
        let patched = api
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await;
        patched.expect("the claim's status is written");
    }

    /// Waits for a state of a VM's status.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&VirtualMachineStatus) -> bool,
    ) -> VirtualMachineStatus {
        let vms = self.vms();
        let vm = until(&vms, name, what, |vm: &VirtualMachine| {
            vm.status.as_ref().is_some_and(&holds)
        });
        vm.await.status.expect("it has one")
    }

    pub(crate) async fn until_phase(&self, name: &str, phase: Phase) -> VirtualMachineStatus {
        let what = format!("phase {phase:?}");
        self.until(name, &what, |status| status.phase == Some(phase))
            .await
    }

    /// Waits until a condition has a reason.
    pub(crate) async fn until_reason(
        &self,
        name: &str,
        type_: ConditionType,
        reason: &str,
    ) -> String {
        let what = format!("condition {type_:?} with reason {reason}");
        let says = |status: &VirtualMachineStatus| {
            status::condition(status, type_).is_some_and(|condition| condition.reason == reason)
        };
        let status = self.until(name, &what, says).await;
        let condition = status::condition(&status, type_).expect("it is there");
        condition.message.clone()
    }

    /// Waits until a pod is there.
    pub(crate) async fn until_pod(&self, name: &str) -> Pod {
        until(&self.pods(), name, "a pod", |_: &Pod| true).await
    }

    /// Waits until a pod's deletion was asked for.
    pub(crate) async fn until_deleting(&self, name: &str) -> Pod {
        let deleting = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        until(&self.pods(), name, "deletion", deleting).await
    }

    /// Waits until a pod is gone.
    pub(crate) async fn until_gone(&self, pod: &Pod) {
        let (name, uid) = (&pod.metadata.name, &pod.metadata.uid);
        let name = name.as_deref().expect("a name");
        let gone = conditions::is_deleted(uid.as_deref().expect("a uid"));
        let waited = tokio::time::timeout(PATIENCE, await_condition(self.pods(), name, gone));
        waited
            .await
            .unwrap_or_else(|_| panic!("pod {name} is still there"))
            .expect("the watch works");
    }

    /// The names of all pods in the namespace.
    pub(crate) async fn pod_names(&self) -> Vec<String> {
        let pods = self.pods().list(&kube::api::ListParams::default()).await;
        let pods = pods.expect("pods can be listed");
        pods.items
            .into_iter()
            .filter_map(|pod| pod.metadata.name)
            .collect()
    }
}

/// Waits for a state of an object.
pub(crate) async fn until<K>(api: &Api<K>, name: &str, what: &str, holds: impl Fn(&K) -> bool) -> K
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let condition = |object: Option<&K>| object.is_some_and(&holds);
    let waited = tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, condition));
    let Ok(object) = waited.await else {
        let there = api.get_opt(name).await;
        panic!("{name}: no {what} within {PATIENCE:?}: {there:#?}");
    };
    object.expect("the watch works").expect("it is there")
}

/// Reads an object of the API from JSON.
pub(crate) fn object_of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object of the API")
}

/// A replica of the controller, as the Deployment runs it.
pub(crate) async fn replica(server: &Server, identity: &str) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let lease = "coracle-controller".to_owned();
    let options = Options {
        image: "coracle.dev/vm:test".into(),
        importer: "coracle.dev/importer:test".into(),
        election: Election {
            duration: Duration::from_secs(3),
            deadline: Duration::from_secs(2),
            period: Duration::from_millis(300),
            ..Election::new(SYSTEM.into(), lease, identity.into())
        },
        // The machine may be slow; what is tested is that nothing is written.
        patience: Duration::from_secs(600),
        listener,
        metrics: Metrics::default(),
    };
    let client = server.client(Who::Controller);
    cluster::run(client, options, CancellationToken::new()).await
}

/// What `kubectl apply -k deploy` brings, as far as it matters here.
pub(crate) async fn prepare(server: &Server) {
    server.ready().await;
    let client = server.client(Who::Admin);
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = VirtualMachine::crd();
    let created = crds.create(&PostParams::default(), &crd).await;
    created.expect("the API server takes the definition");
    let name = "virtualmachines.coracle.dev";
    let established = await_condition(crds, name, conditions::is_crd_established());
    let established = tokio::time::timeout(PATIENCE, established).await;
    established.expect("in time").expect("the watch works");
    make_namespace(&client, SYSTEM).await;
    permit(&client).await;
}

/// The roles of the deployment, bound to the user that the tests' controller
/// is.
async fn permit(client: &Client) {
    let manifest = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/controller/rbac.yaml"
    );
    let manifest = std::fs::read_to_string(manifest).expect("the roles are in deploy");
    let params = PostParams::default();
    let subject = json!([{"kind": "User", "name": "controller",
                          "apiGroup": "rbac.authorization.k8s.io"}]);
    for document in serde_yaml_ng::Deserializer::from_str(&manifest) {
        let mut object: Value = serde::Deserialize::deserialize(document).expect("a YAML document");
        if object.get("subjects").is_some() {
            object["subjects"] = subject.clone();
        }
        match object["kind"].as_str() {
            Some("ClusterRole") => {
                let api: Api<ClusterRole> = Api::all(client.clone());
                api.create(&params, &object_of(object)).await.map(drop)
            }
            Some("ClusterRoleBinding") => {
                let api: Api<ClusterRoleBinding> = Api::all(client.clone());
                api.create(&params, &object_of(object)).await.map(drop)
            }
            Some("Role") => {
                let api: Api<Role> = Api::namespaced(client.clone(), SYSTEM);
                api.create(&params, &object_of(object)).await.map(drop)
            }
            Some("RoleBinding") => {
                let api: Api<RoleBinding> = Api::namespaced(client.clone(), SYSTEM);
                api.create(&params, &object_of(object)).await.map(drop)
            }
            _ => Ok(()),
        }
        .expect("the API server takes the role");
    }
}

async fn make_namespace(client: &Client, name: &str) {
    let params = PostParams::default();
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace = object_of(json!({"metadata": {"name": name}}));
    let created = api.create(&params, &namespace).await;
    created.expect("the API server takes the namespace");
    // The controller-manager would make it, and pods are not admitted without.
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    let account = object_of(json!({"metadata": {"name": "default"}}));
    let created = api.create(&params, &account).await;
    created.expect("the API server takes the account");
}
