//! What every reconciliation has at hand.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::vm::{Phase, VirtualMachine};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};

use super::by_claim::ByClaim;
use super::events::Events;
use super::frozen::Frozen;
use super::index::PodIndex;
use super::lease::Tenure;
use super::metrics::Metrics;
use super::retries::Retries;
use super::storage::Storage;
use super::superseded::Superseded;
use super::unreadable::Unreadable;
use crate::Settings;

/// Name under which the controller writes: the field manager of what it
/// applies, and the reporter of its events.
pub const MANAGER: &str = "coracle-controller";

/// The VMs, each with its phase.
pub type Vms = Frozen<VirtualMachine, Phase>;
/// A VM as what brings about looks knows it: by name. The look thaws it.
pub type VmMeta = PartialObjectMeta<VirtualMachine>;
/// Which VM to look at.
pub type VmRef = ObjectRef<VmMeta>;

/// What a leader begins with.
pub struct Term {
    /// The API server.
    pub client: Client,
    /// What the administrator decided.
    pub settings: Settings,
    /// How long the steps between a new pod and a running guest may take
    /// before each is worth a write of its own: see `status::due`.
    pub patience: Duration,
    /// How long this replica leads.
    pub tenure: Arc<Tenure>,
    /// Counters and histograms.
    pub metrics: Metrics,
}

/// What every reconciliation has at hand.
pub struct Context {
    /// What was there from the beginning.
    pub term: Term,
    /// The pods that matter.
    pub pods: PodIndex,
    /// The VMs.
    pub vms: Arc<Vms>,
    /// Those that cannot be read.
    pub unreadable: Arc<Unreadable>,
    /// The claims.
    pub claims: Frozen<PersistentVolumeClaim, ()>,
    /// What stands behind them.
    pub storage: Storage,
    /// The VMs that name a claim.
    pub users: ByClaim,
    /// The VMs that wait for somebody else to stop using a claim.
    pub waiting: ByClaim,
    /// How long VMs wait that could not be looked at.
    pub retries: Retries,
    /// What was replaced and is in the cache yet.
    pub superseded: Superseded,
    /// Where events go.
    pub events: Events,
}

impl Context {
    /// A context of a controller that has seen nothing yet.
    #[must_use]
    pub fn new(term: Term) -> Self {
        Self {
            events: Events::new(term.client.clone()),
            term,
            pods: PodIndex::default(),
            vms: Arc::new(Frozen::new(phase)),
            unreadable: Arc::default(),
            claims: Frozen::new(|_| ()),
            storage: Storage::default(),
            users: ByClaim::default(),
            waiting: ByClaim::default(),
            retries: Retries::default(),
            superseded: Superseded::default(),
        }
    }

    /// Returns once pods, claims and storage have been listed.
    pub async fn ready(&self) {
        self.pods.ready().await;
        self.claims.ready().await;
        self.storage.ready().await;
    }

    /// The VMs of a namespace.
    #[must_use]
    pub fn vms_in(&self, namespace: &str) -> Api<VirtualMachine> {
        Api::namespaced(self.term.client.clone(), namespace)
    }

    /// The claims of a namespace.
    #[must_use]
    pub fn claims_in(&self, namespace: &str) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.term.client.clone(), namespace)
    }

    /// The pods of a namespace.
    #[must_use]
    pub fn pods_in(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.term.client.clone(), namespace)
    }

    /// The VMs to look at again after a claim changed.
    #[must_use]
    pub fn after_claim(&self, namespace: &str, claim: &str) -> Vec<VmRef> {
        references(namespace, self.users.vms(namespace, claim))
    }

    /// The VMs to look at again after a volume changed: those of its claim.
    #[must_use]
    pub fn after_volume(&self, volume: &PersistentVolume) -> Vec<VmRef> {
        let spec = volume.spec.as_ref();
        let claim = spec.and_then(|spec| spec.claim_ref.as_ref());
        let names = claim.and_then(|claim| Some((claim.namespace.as_ref()?, claim.name.as_ref()?)));
        names.map_or_else(Vec::new, |(namespace, claim)| {
            self.after_claim(namespace, claim)
        })
    }

    /// The VMs to look at again after a pod changed: its own, and those that
    /// wait for its claims.
    #[must_use]
    pub fn after_pod(&self, pod: &Pod) -> Vec<VmRef> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
        let claims = volumes
            .unwrap_or_default()
            .iter()
            .filter_map(|volume| Some(&volume.persistent_volume_claim.as_ref()?.claim_name));
        let mut vms: Vec<String> = claims
            .flat_map(|claim| self.waiting.vms(namespace, claim))
            .collect();
        vms.extend(super::index::owner(pod).map(|owner| owner.vm));
        vms.sort();
        vms.dedup();
        references(namespace, vms)
    }
}

fn phase(vm: &VirtualMachine) -> Phase {
    let status = vm.status.as_ref();
    status
        .and_then(|status| status.phase)
        .unwrap_or(Phase::Pending)
}

fn references(namespace: &str, vms: Vec<String>) -> Vec<VmRef> {
    vms.into_iter()
        .map(|vm| ObjectRef::new(&vm).within(namespace))
        .collect()
}
