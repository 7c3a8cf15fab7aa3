//! The subcommands, one module each where they are more than a request.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Context, bail};
use coracle_api::{
    names::exit,
    report::{State, Status},
};

use crate::{
    args::{Action, Arguments, Options},
    control::{Call, Client, ClientError},
    supervisor::Mode,
};

mod console;
mod create;
mod sandbox;
mod vm;

/// Does what the command line says; the exit code.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let Arguments { options, command } = arguments;
    match dispatch(&options, command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Nobody is left to tell where this fails.
            let _ = writeln!(io::stderr(), "coracle-shim: {error:#}");
            ExitCode::from(exit::GUEST)
        }
    }
}

fn dispatch(options: &Options, action: Action) -> anyhow::Result<u8> {
    let client = || Client::connect(&options.run_dir);
    match action {
        Action::Run => return vm::run(options, Mode::Run, None),
        Action::Create => return create::create(options),
        Action::Serve => return create::serve(options),
        Action::Pause { sandbox: true } => sandbox::hold()?,
        Action::Pause { sandbox: false } => client()?.call(Call::Pause {})?,
        Action::Resume => client()?.call(Call::Resume {})?,
        Action::Start => client()?.call(Call::Start {})?,
        Action::Kill { signal } => client()?.call(Call::Kill { signal })?,
        Action::State => {
            let state = serde_json::to_string_pretty(&client()?.state()?)?;
            writeln!(io::stdout(), "{state}").context("standard output failed")?;
        }
        Action::Delete { force } => delete(options, force)?,
        Action::Console { read_only } => {
            console::attach(client()?.console(read_only)?, read_only)?;
        }
        Action::Probe { created } => probe(&client()?.state()?, created)?,
    }
    Ok(exit::OK)
}

/// With `--force` a VM that is not there is as good as deleted.
fn delete(options: &Options, force: bool) -> Result<(), ClientError> {
    match Client::connect(&options.run_dir) {
        Ok(client) => client.delete(force),
        Err(ClientError::Nobody { .. }) if force => Ok(()),
        Err(error) => Err(error),
    }
}

/// Says how the VM is. What it says of one that is not ready is what the kubelet
/// puts into the pod's events, so it names the disk that the guest waits for.
fn probe(state: &State, created: bool) -> anyhow::Result<()> {
    let (word, ready) = match state.status {
        Status::Creating => ("is being created", false),
        Status::Created => ("is created", created),
        Status::Running => ("runs", true),
        Status::Paused => ("is paused", created),
        Status::Stopped => ("has ended", false),
    };
    if !ready {
        bail!("the VM {word}{}", waits_for(state));
    }
    writeln!(io::stdout(), "the VM {word}").context("standard output failed")
}

/// The last errors that stopped a guest which does not run.
fn waits_for(state: &State) -> String {
    if state.status != Status::Paused {
        return String::new();
    }
    let failed = state.disks.iter().filter_map(|disk| {
        let error = disk.last_error.as_ref().filter(|error| error.stopped)?;
        let (operation, reason) = (&error.operation, &error.reason);
        let name = &disk.name;
        Some(format!(
            ": last error of disk \"{name}\": {operation}: {reason}"
        ))
    });
    failed.collect()
}
