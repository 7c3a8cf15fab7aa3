//! The `coracle` command: see the library for what it does.

use std::process::ExitCode;

use clap::Parser;
use coracle::{app, args::Cli};
use tracing::level_filters::LevelFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match cli.global.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .init();
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
    {
        Ok(runtime) => {
            let code = runtime.block_on(app::main(cli));
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
