//! The `mamba-seq` program: everything it does is in the crate `mseq-cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mseq_cli::run(std::env::args_os())
}
