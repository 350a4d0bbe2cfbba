//! Tasks of the people who work on mamba-seq: `cargo xtask TASK`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod ci;
mod error;
mod fuzz;
mod golden;
mod kernels;
mod layers;
mod random;
mod readers;
mod shell;
mod soak;
mod synth;

use std::process::ExitCode;

use error::{Error, Result};

const USAGE: &str = "\
usage: cargo xtask TASK

  ci                       everything that must hold before a change lands, each step timed
  layers                   the crates use only what the layer table allows
  synth --bases N [--records R] [--seed S] [--line W] -o FILE|-
                           genome-like random FASTA, the same for the same options
                           N, R and W may end in k, M or G; --line 0 does not wrap
  kernels build|check [--nvrtc PATH]
                           compiles the CUDA sources into kernels/bin, or looks whether what is there
                           comes from them; NVRTC comes from its Python package, or from PATH
  golden [--check]         remakes data/golden, or compares it with a fresh make
  soak [--kills N] [--bases N] [--records R] [--seed S] [--fill]
                           kills N jobs (200) at random moments and resumes them; --fill: a file
                           system that fills up (root only)
  fuzz [--cases N] [--seconds S] [--seed X] [--kind K [--case I]]
                           reads N damaged files (10000) of each kind; a panic, a hang or a
                           huge allocation is kept under target/fuzz
  readers [FILE]           opens a Parquet file in pyarrow, DuckDB and Polars, which must agree, or a bigWig
                           file in pyBigWig; without one it makes their Python environment, for the tests

environment: MSEQ_PYTHON (a Python; golden needs torch in it), MSEQ_READERS_VENV and MSEQ_NVRTC_VENV
(folders), MSEQ_REQUIRE_NVRTC=1 (kernels check may not skip)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ Error::Usage(_)) => {
            eprintln!("error: {error}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["-h" | "--help" | "help"] => {
            print!("{USAGE}");
            Ok(())
        }
        ["ci"] => ci::run(),
        ["layers"] => layers::run(),
        ["synth", rest @ ..] => synth::run(rest),
        ["soak", rest @ ..] => soak::run(rest),
        ["kernels", rest @ ..] => kernels::run(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["golden"] => golden::run(false),
        ["golden", "--check"] => golden::run(true),
        ["readers"] => readers::prepare(),
        ["readers", file] => readers::run(file),
        [] => Err(Error::Usage("no task".to_owned())),
        ["ci" | "layers" | "golden" | "readers", ..] => {
            Err(Error::Usage(format!("'{}' does not take these arguments", args.join(" "))))
        }
        [task, ..] => Err(Error::Usage(format!("'{task}' is not a task"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails_as_usage(args: &[&str]) -> bool {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        matches!(run(&args), Err(Error::Usage(_)))
    }

    #[test]
    fn what_is_not_a_task_is_a_usage_error() {
        assert!(fails_as_usage(&[]));
        assert!(fails_as_usage(&["shine"]));
        assert!(fails_as_usage(&["layers", "--fix"]));
        assert!(fails_as_usage(&["golden", "--chek"]));
        assert!(fails_as_usage(&["kernels"]));
        assert!(fails_as_usage(&["readers", "a", "b"]));
        assert!(fails_as_usage(&["synth"]));
    }
}
