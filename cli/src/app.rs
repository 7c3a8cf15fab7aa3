//! From the command line to the commands, and from their errors to the last
//! line and the exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::args::{Cli, Command, Global, RunArgs};
use crate::failure::{Classify, Failure};
use crate::paths::{Paths, default_cache};
use crate::progress::say;
use crate::{devices, interrupt, run, vms};

/// Runs a command to its end.
pub async fn main(cli: Cli) -> ExitCode {
    match Box::pin(command(cli)).await {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            say(&format!("coracle: {}", devices::chain(&*failure.error)));
            ExitCode::from(failure.code)
        }
    }
}

async fn command(cli: Cli) -> Result<u8, Failure> {
    let paths = paths(&cli.global).config()?;
    let vms = vms::Vms {
        paths: &paths,
        settings: &run::settings(cli.global.pod_cidr),
    };
    match cli.command {
        Command::Run(args) => {
            check_root().host()?;
            let (interrupts, listening) = interrupt::listen().host()?;
            let options = options(*args, &cli.global).config()?;
            let result = Box::pin(run::run(&paths, &options, &interrupts)).await;
            drop(listening);
            result
        }
        Command::Ps { json } => vms.ps(json).await,
        Command::Console(vm) => vms.console(&vm.name).await,
        Command::Stop { vm, force } => Box::pin(vms.stop(&vm.name, force)).await,
        Command::State(vm) => vms.state(&vm.name).await,
        Command::Logs { vm, follow } => vms.logs(&vm.name, follow).await,
        Command::Pause(vm) => vms.set_desired(&vm.name, coracle_api::types::DesiredState::Paused),
        Command::Resume(vm) => vms.set_desired(&vm.name, coracle_api::types::DesiredState::Running),
        Command::Clean => Box::pin(vms.clean()).await,
    }
}

/// Loop devices, mounts and namespaces are root's to make.
fn check_root() -> anyhow::Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "coracle makes device nodes, mounts and pods, which only root may: run it with sudo"
    );
    Ok(())
}

fn paths(global: &Global) -> anyhow::Result<Paths> {
    let variable = |name| std::env::var(name).ok();
    let cache = default_cache(
        variable("XDG_CACHE_HOME").as_deref(),
        variable("HOME").as_deref(),
    );
    let root = global
        .containerd_root
        .as_deref()
        .map(absolute)
        .transpose()?;
    Ok(Paths::new(
        &absolute(&global.state_dir)?,
        &cache,
        root.as_deref(),
    ))
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))
}

fn options(args: RunArgs, global: &Global) -> anyhow::Result<run::Options> {
    let RunArgs {
        files,
        volumes,
        detach,
        image,
        image_archive,
        pause_archive,
        containerd,
        kvm_probe,
        device_plugin,
        stop_after,
        report,
    } = args;
    Ok(run::Options {
        files,
        volumes,
        detach,
        image,
        image_archive,
        pause_archive,
        containerd: containerd.as_deref().map(absolute).transpose()?,
        pod_cidr: global.pod_cidr,
        level: kvm_probe,
        device_plugin,
        stop_after,
        report,
    })
}
