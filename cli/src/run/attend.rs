//! While the guest runs: its console on the terminal, its end awaited, and
//! requests to stop passed on.
//!
//! The guest does not depend on this: when containerd goes away it is started
//! again, and the container has not noticed.

use std::process::Stdio;
use std::time::Duration;

use coracle_api::report::{State, Status};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::launch::{LOGS, Launch, Launched};
use crate::console::{self, Place, Shown};
use crate::cri::{Cri, CriError, Exit};
use crate::cri_log::{self, Stream};
use crate::failure::{Classify, Failure};
use crate::interrupt::Interrupts;
use crate::progress::say;
use crate::record::{self, Record};
use crate::teardown::Context;
use crate::{containerd, process};

/// How often the runtime is asked whether the container has ended; CRI has no
/// call that waits.
const POLL: Duration = Duration::from_millis(100);
/// How long the console may take to drain after the container ended.
const DRAIN: Duration = Duration::from_secs(2);
/// By then the end of a container whose console ended is known.
const LEFT_AFTER: Duration = Duration::from_millis(500);
/// How long the shim may take to end qemu when it is told to at once.
const QUIT_GRACE: Duration = Duration::from_secs(5);
/// How long a container that runs may take until its shim listens.
const STARTS: Duration = Duration::from_secs(5);

/// Stays with a VM until it has ended.
pub(super) async fn attend(
    launch: &Launch<'_>,
    launched: &Launched,
    record: &Record,
    interrupts: &Interrupts,
) -> Result<Exit, Failure> {
    let options = launch.options;
    let place = &launched.place;
    let mut stopping = Stopping::new(launched, record);
    let mut interrupts = interrupts.clone();
    let mut requests = 0;
    let found = Notify::new();
    let mut shown = Shown::watching(options.stop_after.as_deref());
    let interactive = options.stop_after.is_none() && is_terminal();
    let over = CancellationToken::new();
    let exit = {
        let console = async {
            if interactive {
                interact(place, &over).await;
            } else {
                stream(place, &mut shown, || found.notify_one(), &over).await;
            }
        };
        let mut console = std::pin::pin!(console);
        let mut ended = std::pin::pin!(wait_exit(launch, launched));
        let mut streaming = true;
        let exit = loop {
            tokio::select! {
                exit = &mut ended => break exit,
                () = &mut console, if streaming => streaming = false,
                count = interrupts.beyond(requests) => {
                    requests = count;
                    stopping.request(count, &launched.container);
                }
                () = found.notified() => stopping.request(1, &launched.container),
                Some(_) = stopping.tasks.join_next() => {}
            }
        };
        over.cancel();
        if streaming {
            let _ = tokio::time::timeout(DRAIN, &mut console).await;
        }
        exit
    };
    if !interactive {
        show_rest(launch, record, &mut shown);
    }
    exit.host()
}

fn is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The end of a VM that was asked to stop.
struct Stopping<'a> {
    cri: Cri,
    place: &'a Place,
    grace: Duration,
    vm: String,
    tasks: JoinSet<()>,
}

impl<'a> Stopping<'a> {
    fn new(launched: &'a Launched, record: &Record) -> Self {
        Self {
            cri: launched.containerd.cri.clone(),
            place: &launched.place,
            grace: Duration::from_secs(record.grace_seconds),
            vm: record.vm.to_string(),
            tasks: JoinSet::new(),
        }
    }

    /// Passes on the `count`th request to stop.
    fn request(&mut self, count: u32, container: &str) {
        let (cri, container) = (self.cri.clone(), container.to_owned());
        match count {
            1 => {
                let seconds = self.grace.as_secs();
                say(&format!(
                    "\ncoracle: asking {} to power off, for up to {seconds} s",
                    self.vm
                ));
                let (grace, place) = (self.grace, self.place.clone());
                self.tasks.spawn(async move {
                    // The kernel drops a signal to a container's first process
                    // that does not listen for it yet.
                    let _ = tokio::time::timeout(STARTS, console::ready(&place)).await;
                    log(cri.stop(&container, grace).await);
                });
            }
            2 => {
                say("\ncoracle: ending the guest at once");
                let mut quit = console::shim(self.place, &["kill", "KILL"], false);
                self.tasks.spawn(async move {
                    // The shim can say in its last words what happened; only
                    // when it does not listen it is killed itself.
                    let asked = tokio::time::timeout(QUIT_GRACE, process::output(&mut quit)).await;
                    if !matches!(asked, Ok(Ok(_))) {
                        log(cri.stop(&container, Duration::ZERO).await);
                    }
                });
            }
            _ => {
                self.tasks
                    .spawn(async move { log(cri.stop(&container, Duration::ZERO).await) });
            }
        }
    }
}

/// A request to stop that failed changes nothing: the guest runs on, and the
/// next request is heard.
fn log(result: Result<(), CriError>) {
    if let Err(error) = result {
        say(&format!("\ncoracle: {error}"));
    }
}

/// Copies the console until it ends once the container is `over`.
async fn stream(place: &Place, shown: &mut Shown, found: impl Fn(), over: &CancellationToken) {
    let mut again = false;
    while over
        .run_until_cancelled(console::ready(place))
        .await
        .is_some()
    {
        let mut replay = again.then(|| console::Replay::after(shown.tail()));
        let copied = console::follow(place, console::Input::None, |bytes| {
            let new = match &mut replay {
                Some(replay) => replay.new_bytes(bytes),
                None => bytes.to_vec(),
            };
            if shown.add(&new) {
                found();
            }
            new
        })
        .await;
        if let Err(error) = copied {
            tracing::debug!(%error, "console client failed");
        }
        // The container is ending, or containerd went away under the client.
        again = true;
        if over
            .run_until_cancelled(tokio::time::sleep(POLL))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Gives the terminal to the console. The end of the console is the user's
/// leaving it only when the container does not end as well.
async fn interact(place: &Place, over: &CancellationToken) {
    console::ready(place).await;
    let left = console::interact(place).await;
    if over
        .run_until_cancelled(tokio::time::sleep(LEFT_AFTER))
        .await
        .is_none()
    {
        return;
    }
    match left {
        Ok(_) => say("\ncoracle: left the console; Ctrl-C stops the VM"),
        Err(error) => say(&format!("\ncoracle: the console cannot be shown: {error}")),
    }
}

/// What the console had not shown yet when the guest was gone: everything,
/// where the guest was faster than the console's client.
fn show_rest(launch: &Launch<'_>, record: &Record, shown: &mut Shown) {
    let dir = launch
        .context
        .paths
        .pod(&record.vm.namespace, &record.vm.name);
    let log = dir
        .join(LOGS)
        .join(coracle_api::names::CONTAINER)
        .join("0.log");
    match cri_log::read(&log, Stream::Stdout) {
        Ok(bytes) => {
            let rest = cri_log::unseen(&bytes, shown.tail()).to_vec();
            shown.add(&rest);
            console::show(&rest);
        }
        Err(error) => tracing::debug!(%error, "no container log"),
    }
    if shown.is_mid_line() {
        console::show(b"\n");
    }
}

/// Waits for the container's end. A private containerd that is gone is
/// started again; another one is waited for.
async fn wait_exit(launch: &Launch<'_>, launched: &Launched) -> Result<Exit, CriError> {
    let cri = &launched.containerd.cri;
    let container = &launched.container;
    loop {
        match cri.exit(container).await {
            Ok(Some(exit)) => return Ok(exit),
            Ok(None) => {}
            Err(error) if error.is_unreachable() => {
                tracing::warn!(%error, "containerd is away, the guest goes on");
                if launch.options.containerd.is_none() {
                    revive(launch.context).await;
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn revive(context: &Context<'_>) {
    let Ok(_lock) = record::lock(context.paths).await else {
        return;
    };
    if let Err(error) = containerd::ensure(context.paths, context.settings).await {
        tracing::warn!(
            error = crate::devices::chain(&error),
            "containerd does not come back"
        );
    }
}

/// Waits until the guest runs, or the container has ended.
pub(super) async fn until_running(
    launched: &Launched,
    interrupts: &Interrupts,
) -> Result<Option<Exit>, Failure> {
    let running = async {
        console::ready(&launched.place).await;
        loop {
            if is_running(&launched.place).await {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let ended = async {
        loop {
            if let Some(exit) = launched
                .containerd
                .cri
                .exit(&launched.container)
                .await
                .host()?
            {
                return Ok::<_, Failure>(exit);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let waited = async {
        tokio::select! {
            () = running => Ok(None),
            exit = ended => exit.map(Some),
        }
    };
    interrupts.leave(waited).await?
}

async fn is_running(place: &Place) -> bool {
    let mut state = console::shim(place, &["state"], false);
    state.stdin(Stdio::null());
    let Ok(text) = process::output(&mut state).await else {
        return false;
    };
    let state: Result<State, _> = serde_json::from_str(&text);
    state.is_ok_and(|state| matches!(state.status, Status::Running | Status::Paused))
}
