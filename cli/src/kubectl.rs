//! `kubectl coracle`: this program under the name of a kubectl plugin.
//!
//! The name it is started by decides, and nothing else: as `kubectl-coracle` it
//! speaks to a cluster, under any other name it runs VMs on this machine. What
//! it does can be done with plain kubectl too; it never talks to a node, and
//! keeps nothing.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

mod age;
mod args;
mod connect;
mod console;
mod create;
mod describe;
mod error;
mod facts;
mod list;
mod logs;
mod power;
mod table;
#[cfg(test)]
mod testing;
mod validate;
mod wait;

pub use args::Cli;

use args::Command;
use connect::{Cluster, Silence};
use error::PluginError;
use power::Action;

use crate::devices::chain;
use crate::progress::say;

/// The plugin's name, as kubectl looks for it in PATH.
const PROGRAM: &str = "kubectl-coracle";
/// Who manages the fields that we set.
const MANAGER: &str = "kubectl-coracle";

/// Whether a program that was started by this name is the plugin.
#[must_use]
pub fn is_plugin(program: &OsStr) -> bool {
    Path::new(program).file_name() == Some(OsStr::new(PROGRAM))
}

/// Runs a command to its end.
pub async fn main(cli: Cli) -> ExitCode {
    match Box::pin(command(cli)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

async fn command(cli: Cli) -> Result<(), PluginError> {
    let brief = async || Cluster::new(&cli.global, Silence::Brief).await;
    let endless = async || Cluster::new(&cli.global, Silence::Endless).await;
    match &cli.command {
        Command::List(args) => list::list(&brief().await?, args).await,
        Command::Start(args) => power::power(&brief().await?, Action::Start, args).await,
        Command::Stop(args) => power::power(&brief().await?, Action::Stop, args).await,
        Command::Restart(args) => power::power(&brief().await?, Action::Restart, args).await,
        Command::Pause(args) => power::power(&brief().await?, Action::Pause, args).await,
        Command::Resume(args) => power::power(&brief().await?, Action::Resume, args).await,
        Command::Console { vm } => console::console(&endless().await?, vm).await,
        Command::Logs(args) => logs::logs(&endless().await?, args).await,
        Command::Describe { vm } => describe::describe(&brief().await?, vm).await,
        Command::Create(args) if !args.apply => create::print(args, &cli.global),
        Command::Create(args) => create::apply(&brief().await?, args).await,
        Command::Validate { files } => validate::validate(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_alone_decides() {
        for (name, plugin) in [
            ("kubectl-coracle", true),
            ("/usr/local/bin/kubectl-coracle", true),
            ("coracle", false),
            ("/usr/bin/coracle", false),
            ("kubectl-coracle.old", false),
            ("", false),
        ] {
            assert_eq!(is_plugin(OsStr::new(name)), plugin, "{name}");
        }
    }
}
