//! Whether `/dev/kvm` can be handed out, kept up to date by one task: at
//! first, after every event at the device or the prober, and slowly for ever.
//! It has two resources: the device, and the place of the prober.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::check::{chain, check, node};
use crate::config::Config;
use crate::listing::{Entry, Health, Listing, Receiver, Sender, channel, publish};
use crate::metrics::{By, Metrics};
use crate::prober::Link;
use crate::resource::Resource;
use crate::verdict::{Answer, Basis, Judge, Judgement, Seen};

/// How often a healthy device is probed. A module that is unloaded or swapped
/// makes an event; this finds what makes none.
const HEALTHY_INTERVAL: Duration = Duration::from_secs(60);
/// How often an unhealthy device is.
const UNHEALTHY_INTERVAL: Duration = Duration::from_secs(30);
/// The least time between two probes: each change of the list makes the
/// kubelet write a file to disk, so a device that flaps is told of ten times
/// a second at most.
const SETTLE: Duration = Duration::from_millis(100);

/// The one task that decides on health.
pub(crate) struct Keeper {
    config: Arc<Config>,
    /// `coracle.dev/kvm`: whether a guest runs.
    kvm: (Arc<Resource>, Sender),
    /// The prober's place: whether the device is there to be probed.
    place: (Arc<Resource>, Sender),
    /// Something happened at the device.
    changed: Arc<Notify>,
    link: Option<Link>,
    judge: Judge,
    metrics: Arc<Metrics>,
    basis: Option<Basis>,
}

impl Keeper {
    pub(crate) fn new(config: Arc<Config>, changed: Arc<Notify>, metrics: Arc<Metrics>) -> Self {
        let grace = config.prober.as_ref().map_or(Duration::ZERO, |p| p.grace);
        Self {
            kvm: (Arc::new(Resource::kvm(&config)), channel()),
            place: (Arc::new(Resource::kvm_probe(&config)), channel()),
            changed,
            link: config.prober.clone().map(Link::new),
            judge: Judge::new(grace),
            metrics,
            basis: None,
            config,
        }
    }

    /// Its resources and their lists.
    pub(crate) fn resources(&self) -> Vec<(Arc<Resource>, Receiver)> {
        let place = self.config.prober.as_ref().map(|_| &self.place);
        let all = std::iter::once(&self.kvm).chain(place);
        all.map(|(resource, sender)| (resource.clone(), sender.subscribe()))
            .collect()
    }

    /// Keeps the health up to date until it is stopped.
    pub(crate) async fn keep(mut self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.forever()).await;
    }

    async fn forever(&mut self) {
        loop {
            let judged = self.look().await;
            tokio::time::sleep(SETTLE).await;
            let interval = match judged.health {
                Health::Healthy => HEALTHY_INTERVAL,
                Health::Unhealthy { .. } | Health::Unknown => UNHEALTHY_INTERVAL,
            };
            let slowly = Instant::now() + interval;
            let next = judged.again.map_or(slowly, |again| again.min(slowly));
            // Each is a reason to look again. What happened during the probe
            // or just after it is kept by the notifier and the socket.
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.changed.notified() => {}
                () = news(self.link.as_mut()) => {}
            }
        }
    }

    async fn look(&mut self) -> Judgement {
        let begun = Instant::now();
        let seen = see(self.config.clone()).await;
        if seen != Seen::Closed {
            let passed = seen == Seen::Usable;
            self.metrics.probe(By::Plugin, passed, begun.elapsed());
        }
        if let Some(link) = &mut self.link {
            link.listen().await;
        }
        // After that, because who gets the place mounts the socket's directory.
        // Before the prober is asked, because without its place it never comes.
        if self.link.is_some() {
            self.show(&self.place, 1, present(&seen));
        }
        let asked = Instant::now();
        let answer = match (&seen, &mut self.link) {
            (Seen::Closed, Some(link)) => link.ask(self.config.level).await,
            _ => Answer::Absent,
        };
        if answer != Answer::Absent {
            let passed = answer == Answer::Passed;
            self.metrics.probe(By::Prober, passed, asked.elapsed());
        }
        let judged = self.judge.judge(seen, answer, Instant::now());
        if self.basis.replace(judged.basis) != Some(judged.basis) {
            explain(judged.basis, &self.config);
        }
        self.show(&self.kvm, self.config.kvm_count, judged.health.clone());
        judged
    }

    /// Shows the slots of a resource, once it is known how they are.
    fn show(&self, (resource, sender): &(Arc<Resource>, Sender), slots: u32, health: Health) {
        if health == Health::Unknown {
            return;
        }
        let id = resource.name.rsplit('/').next().unwrap_or_default();
        let node = node(&self.config);
        let entry = Entry {
            slots: Some(slots),
            health,
            nodes: node.into_iter().collect(),
            ..Entry::new(id)
        };
        publish(sender, Listing::new(resource.clone(), vec![entry]));
    }
}

/// What the plugin sees by itself.
async fn see(config: Arc<Config>) -> Seen {
    let may_ask = config.prober.is_some();
    match tokio::task::spawn_blocking(move || check(&config)).await {
        Ok(Ok(_)) => Seen::Usable,
        Ok(Err(error)) if error.is_closed() && may_ask => Seen::Closed,
        Ok(Err(error)) => Seen::Unusable {
            reason: chain(&error),
        },
        Err(error) => Seen::Unusable {
            reason: format!("the probe failed: {error}"),
        },
    }
}

/// Whether there is a device for a prober.
fn present(seen: &Seen) -> Health {
    match seen {
        Seen::Usable | Seen::Closed => Health::Healthy,
        Seen::Unusable { reason } => Health::Unhealthy {
            reason: reason.clone(),
        },
    }
}

async fn news(link: Option<&mut Link>) {
    match link {
        Some(link) => link.news().await,
        None => std::future::pending().await,
    }
}

/// Says whose word counts from now on.
fn explain(basis: Basis, config: &Config) {
    let grace = config.prober.as_ref().map_or(0, |p| p.grace.as_secs());
    match basis {
        Basis::Plugin => debug!("this plugin judges the device itself"),
        Basis::Prober => info!("the prober judges the device"),
        Basis::Earlier => info!("the prober is away: its last report stands"),
        Basis::Waiting => info!(
            grace_s = grace,
            "this plugin may not open the device itself: waiting for a prober"
        ),
        Basis::Unproven => warn!(
            grace_s = grace,
            "no prober has reported for the whole grace period: the device is advertised because \
             it is there, and no guest has been run on it (is the DaemonSet coracle-prober \
             installed?)"
        ),
    }
}
