//! The program: hands the command line to the library.

use std::process::ExitCode;

use clap::Parser;
use coracle_shim::{args::Arguments, commands};

fn main() -> ExitCode {
    commands::run(Arguments::parse())
}
