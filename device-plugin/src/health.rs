//! Whether the device can be handed out, kept up to date by one task: at
//! first, after every event at the device or the prober, and slowly for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::check::{chain, check};
use crate::config::Config;
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

/// Whether the device can be handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It has not been looked at.
    Unknown,
    /// It can.
    Healthy,
    /// It cannot.
    Unhealthy {
        /// Why, for people.
        reason: String,
    },
}

impl Health {
    /// Why the device cannot be handed out; nothing if it can.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Unknown => Some("it has not been probed yet"),
            Self::Healthy => None,
            Self::Unhealthy { reason } => Some(reason),
        }
    }
}

/// The one task that decides on health.
pub(crate) struct Keeper {
    config: Arc<Config>,
    /// Of `coracle.dev/kvm`: whether a guest runs.
    kvm: watch::Sender<Health>,
    /// Of the prober's place: whether the device is there to be probed.
    place: watch::Sender<Health>,
    /// Something happened at the device.
    changed: Arc<Notify>,
    link: Option<Link>,
    judge: Judge,
    basis: Option<Basis>,
}

impl Keeper {
    pub(crate) fn new(config: Arc<Config>, changed: Arc<Notify>) -> Self {
        let grace = config.prober.as_ref().map_or(Duration::ZERO, |p| p.grace);
        Self {
            kvm: watch::Sender::new(Health::Unknown),
            place: watch::Sender::new(Health::Unknown),
            changed,
            link: config.prober.clone().map(Link::new),
            judge: Judge::new(grace),
            basis: None,
            config,
        }
    }

    /// The health of a resource.
    pub(crate) fn health(&self, resource: Resource) -> watch::Receiver<Health> {
        match resource {
            Resource::Kvm => self.kvm.subscribe(),
            Resource::Probe => self.place.subscribe(),
        }
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
        let seen = see(self.config.clone()).await;
        if let Some(link) = &mut self.link {
            link.listen().await;
        }
        // After that, because who gets the place mounts the socket's directory.
        // Before the prober is asked, because without its place it never comes.
        publish(Resource::Probe, &self.place, present(&seen));
        let answer = match (&seen, &mut self.link) {
            (Seen::Closed, Some(link)) => link.ask(self.config.level).await,
            _ => Answer::Absent,
        };
        let judged = self.judge.judge(seen, answer, Instant::now());
        if self.basis.replace(judged.basis) != Some(judged.basis) {
            explain(judged.basis, &self.config);
        }
        publish(Resource::Kvm, &self.kvm, judged.health.clone());
        judged
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

fn publish(resource: Resource, health: &watch::Sender<Health>, now: Health) {
    health.send_if_modified(|before| {
        if *before == now {
            return false;
        }
        let resource = resource.name();
        match &now {
            Health::Unknown => {}
            Health::Healthy => info!(resource, "healthy"),
            // Reasons hold measurements; the same one again is no news.
            Health::Unhealthy { reason } if matches!(before, Health::Unhealthy { .. }) => {
                debug!(resource, reason, "still unhealthy");
            }
            Health::Unhealthy { reason } => warn!(resource, reason, "unhealthy"),
        }
        *before = now;
        true
    });
}
