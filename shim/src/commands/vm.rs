//! The VM from the machine description to the termination message: load →
//! prepare → start qemu → QMP → run. What may block is done before the first
//! task is started.

use std::{os::fd::AsFd, time::Duration};

use anyhow::Context;
use coracle_api::report::TerminationMessage;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, info, warn};

use crate::{
    args::Options,
    console::{Console, Output, Pump, console},
    control::{Identity, Listener, Port, listen, serve},
    disks::Disks,
    lifecycle::Vm,
    log,
    prepare::{Environment, Paths, load, prepare},
    qemu,
    supervisor::{DesiredFile, Mode, Setup, Signals, Snapshot, Supervisor, spawn},
    termination::{host_failure, report},
    text,
};

/// How long the last words may take to reach console clients and standard
/// output, once the VM has ended.
const FLUSH_GRACE: Duration = Duration::from_millis(500);

/// Called once the VM is created.
pub(super) type Ready = Box<dyn FnOnce() + Send>;

/// Runs a VM to its end; the exit code.
pub(super) fn run(options: &Options, mode: Mode, ready: Option<Ready>) -> anyhow::Result<u8> {
    log::start(options.log_level).context("logging cannot be started")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let code = match runtime.block_on(live(options, mode, ready)) {
        Ok(termination) => termination.reason.exit_code(),
        Err(refused) => report(&refused, &options.termination_log),
    };
    Ok(code)
}

/// The VM's life: how it ended, which has been reported, or why it was refused.
async fn live(
    options: &Options,
    mode: Mode,
    ready: Option<Ready>,
) -> Result<TerminationMessage, TerminationMessage> {
    let Options {
        config_dir,
        run_dir,
        qemu,
        qmp_timeout,
        termination_log,
        ..
    } = options;
    // From here on a TERM is kept until there is a VM to stop.
    let signals = Signals::new().map_err(|error| host_failure(&error))?;
    let machine = load(config_dir).map_err(|refusal| refusal.to_termination())?;
    let listener = listen(run_dir).map_err(|error| host_failure(&error))?;
    let environment = Environment::of(variables());
    let paths = Paths::of_container(run_dir, qemu);
    let found =
        prepare(&machine, &paths, &environment).map_err(|refusal| refusal.to_termination())?;
    let desired = DesiredFile::new(config_dir);
    let spawned = spawn(qemu, |sockets| qemu::command(&machine, &found, sockets))
        .map_err(|error| host_failure(&error))?;
    info!(
        vm = machine.id(),
        pid = spawned.process.id(),
        "started qemu"
    );

    let setup = Setup {
        grace: Duration::from_secs(machine.shutdown_seconds),
        answer: Duration::from_secs(*qmp_timeout),
        mode,
        termination_log: termination_log.clone(),
    };
    let identity = Identity {
        id: machine.id(),
        bundle: config_dir.display().to_string(),
    };
    let (asks, asked) = mpsc::channel(1);
    let disks = Disks::new(&machine, found);
    let supervisor = Supervisor::new(setup, spawned.process, signals, desired, disks, asked);
    let (console, pump) = console(spawned.serial);
    let port = Port {
        asks,
        snapshots: supervisor.snapshots(),
        console,
        identity,
    };
    Ok(attend(supervisor, pump, listener, port, ready).await)
}

/// Runs the VM's owner, and beside it all other long-lived tasks: the console,
/// standard output and the control socket. None of those ends the VM.
async fn attend(
    supervisor: Supervisor,
    pump: Pump,
    listener: Listener,
    port: Port,
    ready: Option<Ready>,
) -> TerminationMessage {
    let mut tasks = JoinSet::new();
    tasks.spawn(async {
        if let Err(error) = pump.run().await {
            warn!(%error, "the serial console cannot be read any more");
        }
    });
    tasks.spawn(to_stdout(port.console.clone()));
    if let Some(ready) = ready {
        tasks.spawn(tell(ready, port.snapshots.clone()));
    }
    tasks.spawn(settle(port.snapshots.clone()));
    tasks.spawn(serve(listener, port));
    let termination = supervisor.run().await;
    let flushed = async { while tasks.join_next().await.is_some() {} };
    if timeout(FLUSH_GRACE, flushed).await.is_err() {
        warn!("somebody did not take the console's last bytes in time");
    }
    termination
}

async fn to_stdout(console: Console) {
    let copied = match Output::new(std::io::stdout().as_fd()) {
        Ok(output) => console.copy_to(output).await,
        Err(error) => Err(error),
    };
    if let Err(error) = copied {
        warn!(%error, "standard output takes no more of the console");
    }
}

/// Once the guest runs, start-up's code is not needed any more.
async fn settle(mut snapshots: watch::Receiver<Snapshot>) {
    let running = snapshots.wait_for(|snapshot| matches!(snapshot.vm, Vm::Running));
    if running.await.is_ok()
        && let Err(error) = text::release()
    {
        debug!(%error, "the text of start-up stays in memory");
    }
}

/// Calls `ready` when the VM is created, and not at all when it never is: a
/// VM on its way out was not, whatever its status is called.
async fn tell(ready: Ready, mut snapshots: watch::Receiver<Snapshot>) {
    let past_creating = snapshots
        .wait_for(|snapshot| !matches!(snapshot.vm, Vm::Creating { .. }))
        .await
        .map(|snapshot| snapshot.vm.clone());
    match past_creating {
        Ok(
            Vm::Created { .. }
            | Vm::Starting
            | Vm::Running
            | Vm::Pausing
            | Vm::Paused { .. }
            | Vm::Resuming,
        ) => ready(),
        Ok(Vm::Creating { .. } | Vm::Stopping { .. } | Vm::Ending { .. } | Vm::Exited(_))
        | Err(_) => {}
    }
}

/// The variables of the environment, without those that are no text.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
