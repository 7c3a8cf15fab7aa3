//! The `coracle` command, and the kubectl plugin: see the library for what
//! they do.

use std::process::ExitCode;

use clap::Parser;
use coracle::{app, args::Cli, kubectl};
use tracing::level_filters::LevelFilter;

/// Which of the two this is.
enum Program {
    Machine(Box<Cli>),
    Plugin(Box<kubectl::Cli>),
}

impl Program {
    fn parse() -> Self {
        let name = std::env::args_os().next();
        if name.is_some_and(|name| kubectl::is_plugin(&name)) {
            return Self::Plugin(Box::new(kubectl::Cli::parse()));
        }
        Self::Machine(Box::new(Cli::parse()))
    }

    fn level(&self) -> LevelFilter {
        match self {
            Self::Machine(cli) => level(LevelFilter::WARN, cli.global.verbose),
            // The client logs what the command is about to say in full.
            Self::Plugin(cli) => level(LevelFilter::OFF, cli.global.verbose),
        }
    }

    async fn run(self) -> ExitCode {
        match self {
            Self::Machine(cli) => app::main(*cli).await,
            Self::Plugin(cli) => kubectl::main(*cli).await,
        }
    }
}

fn level(quiet: LevelFilter, verbose: u8) -> LevelFilter {
    match verbose {
        0 => quiet,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    }
}

fn main() -> ExitCode {
    let program = Program::parse();
    tracing_subscriber::fmt()
        .with_max_level(program.level())
        .with_writer(std::io::stderr)
        .init();
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
    {
        Ok(runtime) => {
            let code = runtime.block_on(program.run());
            // A blocked read of the terminal must not keep the process.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("coracle: the runtime cannot be started: {error}");
            ExitCode::from(coracle_api::names::exit::HOST)
        }
    }
}
