//! The plugin's tasks, all of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::names::RESOURCE_KVM;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::check::KVM_NODE;
use crate::config::Config;
use crate::events::{self, Wanted, Watched};
use crate::grant;
use crate::http;
use crate::kvm::Keeper;
use crate::ledger::Ledger;
use crate::listing::Receiver;
use crate::metrics::Metrics;
use crate::nri;
use crate::registrar::Registrar;
use crate::resource::Resource;
use crate::stock::{Added, Stock};
use crate::uevent;

/// How long the tasks may take to end.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Why the plugin ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A task ended that must not.
    #[error("a task ended before the plugin was stopped")]
    Ended,
    /// A task panicked.
    #[error("a task failed")]
    Task(#[from] JoinError),
    /// The tasks did not end when they were told to.
    #[error("the tasks did not end within {} s", limit.as_secs())]
    Drain {
        /// How long they had.
        limit: Duration,
    },
}

/// How a task ended.
enum Ended {
    /// It should not have, unless the plugin was stopped.
    Task,
    /// A resource is gone, and its registration with it.
    Registration,
}

/// Runs the plugin until it is stopped.
///
/// # Guarantees
/// Registers with every kubelet that comes, and does not end because one is
/// away. When it returns, its sockets are gone and so are CDI specifications;
/// its device nodes stay for containers that restart. It does not deregister
/// with an empty list: a plugin that is upgraded is back in seconds, and the
/// kubelet keeps the capacity for that long.
///
/// # Cancellation
/// A dropped call leaves sockets behind; the next run replaces them.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let mut plugin = Plugin::new(config, stop.clone());
    let mut added = plugin.start();
    let outcome = loop {
        tokio::select! {
            // Tasks that end because they are stopped are no failure.
            biased;
            () = stop.cancelled() => break Ok(()),
            Some(ended) = plugin.tasks.join_next() => match ended {
                Ok(Ended::Registration) => {}
                Ok(Ended::Task) => break Err(RunError::Ended),
                Err(error) => break Err(error.into()),
            },
            Some((resource, listing)) = added.recv() => plugin.register(resource, listing),
        }
    };
    stop.cancel();
    let drained = timeout(DRAIN_LIMIT, async {
        while plugin.tasks.join_next().await.is_some() {}
    });
    let drained = drained
        .await
        .map_err(|_| RunError::Drain { limit: DRAIN_LIMIT });
    grant::withdraw(&plugin.config.grant, RESOURCE_KVM);
    info!("stopped");
    outcome.and(drained)
}

/// The tasks, and what they share.
struct Plugin {
    config: Arc<Config>,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    files: mpsc::UnboundedSender<Watched>,
    wanted: Option<mpsc::UnboundedReceiver<Watched>>,
    tasks: JoinSet<Ended>,
    stop: CancellationToken,
}

impl Plugin {
    fn new(config: Config, stop: CancellationToken) -> Self {
        let (files, wanted) = mpsc::unbounded_channel();
        Self {
            config: Arc::new(config),
            ledger: Arc::default(),
            metrics: Arc::default(),
            files,
            wanted: Some(wanted),
            tasks: JoinSet::new(),
            stop,
        }
    }

    /// Starts what is always there; resources follow.
    fn start(&mut self) -> mpsc::UnboundedReceiver<Added> {
        let devices = Arc::new(Notify::new());
        let (sender, added) = mpsc::unbounded_channel();
        let config = self.config.clone();
        let shared = (self.ledger.clone(), self.metrics.clone());
        let stock = Stock::new(config.clone(), shared, devices.clone(), sender);
        if let Some(address) = config.listen {
            self.task(http::serve(
                address,
                self.metrics.clone(),
                self.stop.clone(),
            ));
        }
        if let Some(file) = &config.file {
            self.watch(Watched::contents(file, &devices));
        }
        if config.kvm_count > 0 {
            self.start_kvm();
        }
        if let Some(socket) = config.nri.clone() {
            self.start_nri(socket);
        }
        if let Some(files) = self.wanted.take() {
            let wanted = Wanted {
                files,
                directories: stock.directories(),
                devices: devices.clone(),
            };
            self.task(events::follow(wanted, self.stop.clone()));
        }
        self.task(uevent::follow(devices, self.stop.clone()));
        self.task(stock.keep(self.stop.clone()));
        added
    }

    fn start_kvm(&mut self) {
        let (config, device) = (self.config.clone(), Arc::new(Notify::new()));
        self.watch(Watched::file(&config.kvm_device(), &device));
        let given = config.grant.path(RESOURCE_KVM, KVM_NODE);
        self.watch(Watched::file(&given, &device));
        if let Some(reports) = &config.prober {
            self.watch(Watched::file(&reports.socket(), &device));
        }
        let keeper = Keeper::new(config, device, self.metrics.clone());
        for (resource, listing) in keeper.resources() {
            self.register(resource, listing);
        }
        self.task(keeper.keep(self.stop.clone()));
    }

    fn start_nri(&mut self, socket: PathBuf) {
        let changed = Arc::new(Notify::new());
        self.watch(Watched::file(&socket, &changed));
        let metrics = self.metrics.clone();
        let keeper = nri::Keeper {
            socket,
            changed,
            metrics,
        };
        self.task(keeper.keep(self.stop.clone()));
    }

    /// Keeps a resource registered from now on.
    fn register(&mut self, resource: Arc<Resource>, listing: Receiver) {
        // Wakers of its own: one event may concern several registrations.
        let (kubelet, own) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        self.watch(Watched::file(&self.config.kubelet_socket(), &kubelet));
        self.watch(Watched::file(&self.config.socket(&resource.name), &own));
        let registrar = Registrar {
            config: self.config.clone(),
            resource,
            listing,
            ledger: self.ledger.clone(),
            metrics: self.metrics.clone(),
            kubelet,
            own,
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            registrar.keep(stop).await;
            Ended::Registration
        });
    }

    fn watch(&self, watched: Watched) {
        // Without inotify nobody listens, and everyone looks by himself.
        let _ = self.files.send(watched);
    }

    fn task(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            Ended::Task
        });
    }
}
