//! Command line of mamba-seq: arguments to a checked configuration, configuration to a pipeline,
//! results to an exit code. Only this crate prints.

mod args;
mod commands;
mod exit_status;
mod progress;
mod say;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub use exit_status::{Failure, INTERRUPTED, OK, RUN_TIME, TERMINATED, USAGE};

/// Runs one command line and gives the exit code of the process.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // A panic is our fault, not the user's: one line, no backtrace.
    std::panic::set_hook(Box::new(|info| {
        // One of a decoder on a damaged file becomes an error that names the file.
        if !mseq_core::is_decoding() {
            say::error(&format!("internal: {info}; please report this"));
        }
    }));
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match args::Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() { USAGE } else { OK };
            // A closed pipe here loses only help text.
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| commands::run(cli, &args)));
    let code = match outcome {
        Ok(Ok(())) => OK,
        Ok(Err(failure)) => {
            if let Some(message) = failure.message() {
                say::error(message);
            }
            failure.code()
        }
        Err(_) => RUN_TIME,
    };
    ExitCode::from(code)
}

/// The whole command line, for man pages, completions and tests.
pub fn command() -> clap::Command {
    args::Cli::command()
}
