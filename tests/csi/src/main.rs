//! `coracle-test-csi`: a hand-off to the library.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use coracle_test_csi::{Args, run};

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "coracle-test-csi: {error:#}");
            ExitCode::FAILURE
        }
    }
}
