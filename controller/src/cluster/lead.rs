//! Leading: the watches, and the looks at VMs that they bring about.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use coracle_api::names::GROUP;
use coracle_block::claim::{ClassFacts, DriverFacts, VolumeFacts};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{Store, store::Writer};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::context::{Context, Term, VmMeta, VmRef};
use super::http::Readiness;
use super::reconcile::{ReconcileError, reconcile};
use super::storage::Storage;
use super::unreadable::Guarded;

/// How many objects are listed at once.
const PAGE: u32 = 100;
/// How many VMs are looked at side by side.
const CONCURRENCY: u16 = 16;
/// How often memory that nothing uses goes back to the system.
const GIVE_BACK: Duration = Duration::from_secs(60);
/// How long the last looks may take after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(20);

type LookError = kube::runtime::controller::Error<ReconcileError, watcher::Error>;

/// Leads until `stop`, and then lets the looks under way end.
pub(super) async fn lead(
    term: Term,
    readiness: watch::Sender<Readiness>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    readiness.send_replace(Readiness::Listing);
    let ctx = Arc::new(Context::new(term));
    let (vms, unreadable) = (ctx.vms.clone(), ctx.unreadable.clone());
    ctx.term.metrics.leads(vms, unreadable);
    let looks = looks(&ctx, reflector::store(), stop.clone());
    let listed = async {
        ctx.vms.ready().await;
        ctx.ready().await;
        readiness.send_replace(Readiness::Leading);
        loop {
            coracle_heap::give_back();
            tokio::time::sleep(GIVE_BACK).await;
        }
    };
    let mut looks = std::pin::pin!(looks);
    let looking = async {
        while let Some(look) = looks.next().await {
            if let Err(error) = look {
                complain(&error);
            }
        }
    };
    let too_long = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        () = looking => {}
        () = listed => {}
        () = too_long => warn!("looks at VMs did not end in time"),
    }
    if stop.is_cancelled() {
        Ok(())
    } else {
        Err(anyhow!("the watches ended by themselves"))
    }
}

/// The stream of looks at VMs. Each of the watches keeps what it brings
/// where a look finds it; a change brings about a look at the VMs that care.
fn looks(
    ctx: &Arc<Context>,
    (vms, vms_writer): (Store<VmMeta>, Writer<VmMeta>),
    stop: CancellationToken,
) -> impl Stream<Item = Result<(VmRef, Action), LookError>> + use<> {
    let client = &ctx.term.client;
    let config = watched();
    let (vms_ctx, claims_ctx, pods_ctx) = (ctx.clone(), ctx.clone(), ctx.clone());
    let vm_stream = watcher(Api::<Guarded>::all(client.clone()), config.clone())
        .default_backoff()
        .modify(trim)
        .map(move |event| Ok(take_in(&vms_ctx, event?)))
        .reflect(vms_writer)
        .applied_objects();
    let claim_stream = watcher(
        Api::<PersistentVolumeClaim>::all(client.clone()),
        config.clone(),
    )
    .default_backoff()
    .modify(trim_claim)
    .map(move |event| {
        if let Ok(event) = &event {
            claims_ctx.claims.apply(event);
        }
        event
    })
    .touched_objects();
    let volumes = storage(ctx, |storage, event| {
        storage.volumes.apply(event, VolumeFacts::of);
    });
    let classes = storage(ctx, |storage, event| {
        storage.classes.apply(event, ClassFacts::of);
    });
    let drivers = storage(ctx, |storage, event| {
        storage.drivers.apply(event, DriverFacts::of);
    });
    let (for_claims, for_pods, for_volumes) = (ctx.clone(), ctx.clone(), ctx.clone());
    let pod_stream = watcher(Api::<Pod>::all(client.clone()), config)
        .default_backoff()
        .map(move |event| {
            if let Ok(event) = &event {
                pods_ctx.pods.apply(event);
            }
            event
        })
        .touched_objects();
    Controller::for_stream(vm_stream, vms)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .watches_stream(claim_stream, move |claim| {
            for_claims.after_claim(&claim.namespace().unwrap_or_default(), &claim.name_any())
        })
        .watches_stream(volumes, move |volume| for_volumes.after_volume(&volume))
        // A class or a driver that changes is seen at the next look: claims
        // that wait for one change by themselves once it is there.
        .watches_stream(classes, |_| None::<VmRef>)
        .watches_stream(drivers, |_| None::<VmRef>)
        .watches_stream(pod_stream, move |pod| for_pods.after_pod(&pod))
        .trigger_backoff(NoPause)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, retry, ctx.clone())
}

/// How long all watches pause because one has failed: each has a pause of its
/// own, and after an outage of the API server, in which all of them fail several
/// times, pauses of the whole would add up to minutes.
struct NoPause;

impl Iterator for NoPause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

impl Backoff for NoPause {
    fn reset(&mut self) {}
}

/// A watch over objects of the cluster's storage; `keep` takes in what it sees.
fn storage<K>(
    ctx: &Arc<Context>,
    keep: impl Fn(&Storage, &watcher::Event<K>) + Send + Sync + 'static,
) -> impl Stream<Item = watcher::Result<K>> + Send + 'static
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let (client, ctx) = (ctx.term.client.clone(), ctx.clone());
    watcher(Api::<K>::all(client), watched())
        .default_backoff()
        .map(move |event| {
            if let Ok(event) = &event {
                keep(&ctx.storage, event);
            }
            event
        })
        .touched_objects()
}

/// Keeps what a watch over VMs brings, and hands on the event without the
/// objects: names, and what tells versions apart. A VM that cannot be read
/// is as good as gone, but for a look that says so.
fn take_in(ctx: &Context, event: watcher::Event<Guarded>) -> watcher::Event<VmMeta> {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    ctx.unreadable.apply(&event);
    match event {
        Apply(vm) => {
            let meta = meta(&vm);
            match vm.0 {
                Ok(vm) => ctx.vms.apply(&Apply(vm)),
                Err(_) => forget(ctx, &meta),
            }
            Apply(meta)
        }
        InitApply(vm) => {
            let meta = meta(&vm);
            if let Ok(vm) = vm.0 {
                ctx.vms.apply(&InitApply(vm));
            }
            InitApply(meta)
        }
        Delete(vm) => {
            let meta = meta(&vm);
            forget(ctx, &meta);
            Delete(meta)
        }
        Init => {
            ctx.vms.apply(&Init);
            Init
        }
        InitDone => {
            ctx.vms.apply(&InitDone);
            InitDone
        }
    }
}

fn forget(ctx: &Context, vm: &VmMeta) {
    let namespace = vm.namespace().unwrap_or_default();
    ctx.vms.forget(&namespace, &vm.name_any());
}

fn meta(vm: &Guarded) -> VmMeta {
    let metadata = vm.meta();
    VmMeta {
        types: None,
        metadata: ObjectMeta {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        _phantom: PhantomData,
    }
}

/// When to look again at a VM that could not be looked at.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature is the controller's"
)]
fn retry(vm: Arc<VmMeta>, error: &ReconcileError, ctx: Arc<Context>) -> Action {
    let key = (vm.namespace().unwrap_or_default(), vm.name_any());
    let after = ctx.retries.next(key);
    let error = chain(error);
    warn!(
        namespace = vm.namespace(),
        vm = vm.name_any(),
        ?after,
        error,
        "a look at a VM failed"
    );
    Action::requeue(after)
}

fn complain(error: &LookError) {
    use kube::runtime::controller::Error;
    match error {
        // Told by `retry`; a VM that is gone needs nothing.
        Error::ReconcilerFailed(..) | Error::ObjectNotFound(_) => {}
        Error::QueueError(_) | Error::RunnerError(_) => {
            error!(error = chain(error), "a watch failed and is tried again");
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// How everything is watched: listed in small pages, because the largest one
/// decides how much memory the controller needs at most.
fn watched() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// What nobody reads is not kept.
fn trim<K: ResourceExt>(object: &mut K) {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    metadata.finalizers = None;
    let ours = |key: &str| key.split('/').next() == Some(GROUP);
    for map in [&mut metadata.annotations, &mut metadata.labels] {
        let kept = map.take().map(|mut map| {
            map.retain(|key, _| ours(key));
            map
        });
        *map = kept.filter(|map| !map.is_empty());
    }
}

/// The same, and what of a claim only its storage driver reads.
fn trim_claim(claim: &mut PersistentVolumeClaim) {
    trim(claim);
    if let Some(spec) = &mut claim.spec {
        spec.data_source = None;
        spec.data_source_ref = None;
        spec.selector = None;
    }
}
