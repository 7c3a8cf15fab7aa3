//! The devices of all resources but KVM, kept up to date by one task: at
//! first, after the kernel says that one came or went, after a change of the
//! configuration file, and slowly for ever.
//!
//! ```text
//!   uevent, inotify ─┐
//!   time ────────────┼─► survey ─► inventory ─┐
//!   file ────────────┘  (blocking)            ├─► offer ─► a listing each
//!   Allocate ─────────────────── holdings ────┘
//! ```
//!
//! A file that cannot be used leaves things as they are, and the log says
//! where its mistakes are. A resource that did not change is not touched by
//! one that did.

mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_heap::give_back;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::grant::withdraw;
use crate::host::directories;
use crate::ledger::Ledger;
use crate::listing::{Entry, Listing, Receiver, Sender, channel, publish};
use crate::metrics::Metrics;
use crate::resource::{BUILTINS, Resource};
use crate::settings::Settings;
use crate::usage::in_use;

pub(crate) use survey::{Survey, load, survey};

/// How often is looked without an event, and the kubelet asked what is in use.
const INTERVAL: Duration = Duration::from_secs(10);
/// How seldom at most, on a node with many devices.
const LONGEST_INTERVAL: Duration = Duration::from_secs(120);
/// How much longer than a look the time to the next one is, without an event:
/// an idle plugin uses a thousandth of a processor for looking.
const IDLE_FACTOR: u32 = 1000;
/// How often the kubelet is asked while it does not tell.
const RETRY: Duration = Duration::from_secs(1);
/// The least time between two looks: each change of a list makes the kubelet
/// write a file to disk.
const SETTLE: Duration = Duration::from_millis(100);

/// A resource that is to be registered, until its last list.
pub(crate) type Added = (Arc<Resource>, Receiver);

/// The one task that decides on devices.
pub(crate) struct Stock {
    config: Arc<Config>,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    /// Something happened to a device or to the file.
    wake: Arc<Notify>,
    added: mpsc::UnboundedSender<Added>,
    /// Where something may come or go.
    directories: watch::Sender<BTreeSet<PathBuf>>,
    settings: Settings,
    /// The file's text, as far as it was looked at.
    text: Option<Result<String, String>>,
    shown: BTreeMap<String, (Arc<Resource>, Sender)>,
    last: Survey,
    /// Why the kubelet does not tell what is in use, as the log has it.
    deaf: Option<String>,
}

impl Stock {
    pub(crate) fn new(
        config: Arc<Config>,
        (ledger, metrics): (Arc<Ledger>, Arc<Metrics>),
        wake: Arc<Notify>,
        added: mpsc::UnboundedSender<Added>,
    ) -> Self {
        let directories = watch::Sender::new(BTreeSet::new());
        Self {
            config,
            ledger,
            metrics,
            wake,
            added,
            directories,
            settings: Settings::default(),
            text: None,
            shown: BTreeMap::new(),
            last: Survey::default(),
            deaf: None,
        }
    }

    /// The directories to watch.
    pub(crate) fn directories(&self) -> watch::Receiver<BTreeSet<PathBuf>> {
        self.directories.subscribe()
    }

    /// Keeps the devices up to date until it is stopped.
    pub(crate) async fn keep(mut self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.forever()).await;
        for name in self.shown.keys() {
            withdraw(&self.config.grant, name);
        }
    }

    async fn forever(&mut self) {
        loop {
            let took = self.look().await;
            give_back();
            sleep(SETTLE).await;
            self.offer_until(Instant::now() + interval(took)).await;
        }
    }

    /// Waits for a reason to look again. What is given out and taken back
    /// meanwhile needs no look, but changes what is offered.
    async fn offer_until(&mut self, next: Instant) {
        let (ledger, wake) = (self.ledger.clone(), self.wake.clone());
        let mut asked = Instant::now();
        loop {
            let interval = if self.deaf.is_some() { RETRY } else { INTERVAL };
            tokio::select! {
                biased;
                () = wake.notified() => return,
                () = sleep_until(next) => return,
                () = ledger.changed.notified() => {}
                () = sleep_until(asked + interval) => {
                    asked = Instant::now();
                    self.learn().await;
                    // And what the lists took that were sent meanwhile.
                    give_back();
                }
            }
            self.offer();
        }
    }

    /// Looks at the node, and returns how much processor time that took.
    async fn look(&mut self) -> Duration {
        let settings = self.reload().await;
        let tried = settings.clone();
        let found = self
            .survey(tried.unwrap_or_else(|| self.settings.clone()))
            .await;
        let Some((found, took)) = found else {
            self.text = None;
            return Duration::ZERO;
        };
        match settings {
            Some(settings) if self.text_is_first() || self.is_clean(&found) => {
                info!(resources = settings.resources.len(), "configuration read");
                self.metrics.configuration(true);
                self.settings = settings;
                self.remember(found);
            }
            // The devices as the settings before have them.
            Some(_) => {
                let before = self.settings.clone();
                if let Some((found, _)) = self.survey(before).await {
                    self.remember(found);
                }
            }
            None => self.remember(found),
        }
        self.learn().await;
        self.offer();
        let watched = directories(&self.config.roots, &self.settings, &builtin_paths());
        self.directories.send_if_modified(|before| {
            let change = *before != watched;
            *before = watched;
            change
        });
        took
    }

    /// Keeps what was found, unless it is what is there: lists share it.
    fn remember(&mut self, mut found: Survey) {
        // The inventory has those that matter.
        found.host.nodes.clear();
        if found != self.last {
            self.last = found;
        }
    }

    async fn survey(&self, settings: Settings) -> Option<(Survey, Duration)> {
        let config = self.config.clone();
        let look = move || {
            let begun = thread_time();
            let found = survey(&config, &settings, true);
            (found, thread_time().saturating_sub(begun))
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(found) => Some(found),
            Err(error) => {
                error!(%error, "looking at the devices failed");
                None
            }
        }
    }

    /// New settings, if the file has changed and can be used.
    async fn reload(&mut self) -> Option<Settings> {
        let path = self.config.file.clone()?;
        let read = tokio::task::spawn_blocking(move || load(&path))
            .await
            .ok()?;
        let text = read
            .as_ref()
            .map(|(text, _)| text.clone())
            .map_err(ToString::to_string);
        if self.text.as_ref() == Some(&text) {
            return None;
        }
        self.text = Some(text);
        match read.and_then(|(_, settings)| settings) {
            Ok(settings) => Some(settings),
            Err(error) => {
                let kept = self.settings.resources.len();
                error!(%error, kept_resources = kept, "the configuration is not used");
                self.metrics.configuration(false);
                None
            }
        }
    }

    fn text_is_first(&self) -> bool {
        self.settings == Settings::default()
    }

    /// Whether no device is claimed twice that was not before.
    fn is_clean(&self, found: &Survey) -> bool {
        let mut news = found.inventory.conflicts.iter();
        let Some((_, reason)) =
            news.find(|(device, _)| !self.last.inventory.conflicts.contains_key(*device))
        else {
            return true;
        };
        error!(%reason, "the configuration is not used");
        self.metrics.configuration(false);
        false
    }

    /// Learns from the kubelet what is in use, where that matters.
    async fn learn(&mut self) {
        let Some(socket) = &self.config.pod_resources else {
            return;
        };
        if self.settings.resources.is_empty() {
            return;
        }
        let asked = Instant::now();
        match in_use(socket).await {
            Ok(in_use) => {
                let Survey { host, inventory } = &self.last;
                let key_of = |resource: &str, id: &str| inventory.key_of(host, resource, id);
                self.ledger.holdings().observe(&in_use, asked, key_of);
                self.deaf = None;
            }
            Err(error) => {
                let error = error.to_string();
                if self.deaf.as_ref() != Some(&error) {
                    warn!(
                        error,
                        "what is in use is not known: the kubelet's pod-resources"
                    );
                }
                self.deaf = Some(error);
            }
        }
    }

    /// Whether the kubelet has yet to tell what is in use: until then, nothing
    /// of the configuration file is offered. A plugin that was restarted does
    /// not know who has what a container may have alone.
    fn is_in_the_dark(&self) -> bool {
        self.config.pod_resources.is_some() && !self.ledger.holdings().is_known()
    }

    /// Shows what can be given out now.
    fn offer(&mut self) {
        let mut listings = self.last.inventory.offer(&self.ledger.holdings());
        if self.is_in_the_dark() {
            listings.retain(|listing| is_builtin(&listing.resource.name));
        }
        let stays = |name: &str, resource: &Resource| {
            let mut now = listings.iter().map(|listing| &listing.resource);
            now.any(|now| now.name == name && now.kind == resource.kind)
        };
        self.shown.retain(|name, (resource, sender)| {
            let stays = stays(name, resource);
            if !stays {
                info!(resource = name, "no longer a resource");
                let last = Listing::new(resource.clone(), [] as [Entry; 0]);
                publish(sender, Listing { last: true, ..last });
                withdraw(&self.config.grant, name);
            }
            stays
        });
        for listing in listings {
            let resource = listing.resource.clone();
            let (_, sender) = self.shown.entry(resource.name.clone()).or_insert_with(|| {
                let sender = channel();
                // The plugin takes it as long as it runs.
                let _ = self.added.send((resource.clone(), sender.subscribe()));
                (resource, sender)
            });
            publish(sender, listing);
        }
    }
}

/// The time to the next look, after one that took so much.
fn interval(took: Duration) -> Duration {
    (took * IDLE_FACTOR).clamp(INTERVAL, LONGEST_INTERVAL)
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    now.map_or(Duration::ZERO, Duration::from)
}

fn is_builtin(name: &str) -> bool {
    BUILTINS.iter().any(|builtin| builtin.name == name)
}

/// Where the built-in devices are.
pub(crate) fn builtin_paths() -> [&'static str; 3] {
    BUILTINS.map(|builtin| builtin.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_a_look_takes_the_seldomer_it_is_taken() {
        for (took, next) in [(0, 10_000), (9, 10_000), (50, 50_000), (5000, 120_000)] {
            let (took, next) = [took, next].map(Duration::from_millis).into();
            assert_eq!(interval(took), next, "{took:?}");
        }
    }
}
