//! Starts the tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(sigsif::cli::run(std::env::args_os().collect()))
}
