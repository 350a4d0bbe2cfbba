//! Everything that must hold before a change lands, in the order of how soon it tells.

use std::{
    env,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    layers, shell,
};

/// How the line begins that a test prints when it finds no GPU.
const NO_GPU: &str = "skipped, no CUDA device";

enum Outcome {
    Done,
    /// Passed, but for what is said here.
    Without(String),
    Skipped(&'static str),
}

type Step = (&'static str, fn() -> Result<Outcome>);

const STEPS: &[Step] = &[
    ("fmt", || cargo(&["fmt", "--all", "--check"], &[])),
    ("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])),
    ("doc", || cargo(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])),
    ("test", test),
    ("kernels", kernels),
    ("layers", || layers::run().map(|()| Outcome::Done)),
    ("deny", deny),
];

pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    let summary = steps(STEPS)?;
    println!("ci: {summary}, {}", seconds(start.elapsed()));
    Ok(())
}

/// Runs one after the other up to the first failure.
fn steps(steps: &[Step]) -> Result<String> {
    let (mut skipped, mut without) = (Vec::new(), String::new());
    for (at, (name, step)) in steps.iter().enumerate() {
        println!("ci: {name}");
        let start = Instant::now();
        match step() {
            Ok(Outcome::Done) => println!("ci: {name} passed, {}", seconds(start.elapsed())),
            Ok(Outcome::Without(what)) => {
                println!("ci: {name} passed, {}, WITHOUT {what}", seconds(start.elapsed()));
                without += &format!("; NOT RUN: {what}");
            }
            Ok(Outcome::Skipped(why)) => {
                println!("skipped: {why}");
                skipped.push(*name);
            }
            Err(cause) => {
                let left: Vec<&str> = steps[at + 1..].iter().map(|(name, _)| *name).collect();
                let left = if left.is_empty() { "nothing".to_owned() } else { left.join(", ") };
                return Err(Error::Failed(format!(
                    "ci: {name} failed after {}: {cause}; not run: {left}",
                    seconds(start.elapsed())
                )));
            }
        }
    }
    let passed = steps.len() - skipped.len();
    Ok(match skipped.as_slice() {
        [] => format!("all {passed} steps passed{without}"),
        names => format!("{passed} steps passed, skipped: {}{without}", names.join(", ")),
    })
}

fn cargo(args: &[&str], environment: &[(&str, &str)]) -> Result<Outcome> {
    shell::run(shell::cargo().args(args).envs(environment.iter().copied()))?;
    Ok(Outcome::Done)
}

fn test() -> Result<Outcome> {
    let skipped = shell::run_and_count(shell::cargo().args(["test", "--workspace"]), NO_GPU)?;
    Ok(match skipped {
        0 => Outcome::Done,
        skipped => Outcome::Without(format!("{skipped} tests that need a CUDA device")),
    })
}

/// Are the kernels what their sources compile to? Where pip is there, the compiler must be too, unless
/// `MSEQ_REQUIRE_NVRTC` says otherwise.
fn kernels() -> Result<Outcome> {
    const REQUIRE: &str = "MSEQ_REQUIRE_NVRTC";
    let mut command = shell::cargo();
    command.args(["xtask", "kernels", "check"]);
    let python = shell::chosen_python().unwrap_or_else(|| PathBuf::from("python3"));
    let has_pip = shell::succeeds(shell::program(&python).args(["-c", "import ensurepip, venv"]));
    if has_pip && env::var_os(REQUIRE).is_none() {
        command.env(REQUIRE, "1");
    }
    shell::run(&mut command)?;
    Ok(if has_pip {
        Outcome::Done
    } else {
        Outcome::Without("compiling the kernels anew, as there is no pip".to_owned())
    })
}

fn deny() -> Result<Outcome> {
    let command = |args: &[&str]| -> Command {
        let mut command = shell::cargo();
        command.arg("deny").args(args);
        command
    };
    if !shell::succeeds(&mut command(&["--version"])) {
        return Ok(Outcome::Skipped("cargo-deny is not installed"));
    }
    shell::run(&mut command(&["check", "bans", "licenses", "sources"]))?;
    Ok(Outcome::Done)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_stops_and_says_what_was_not_run() {
        let failed = steps(&[
            ("one", || Ok(Outcome::Done)),
            ("two", || Err(Error::Failed("no".to_owned()))),
            ("three", || panic!("runs after a failure")),
        ]);
        let text = failed.unwrap_err().to_string();
        assert!(
            text.starts_with("ci: two failed after ") && text.ends_with(": no; not run: three"),
            "{text}"
        );
    }

    #[test]
    fn a_skipped_step_is_not_called_passed() {
        let one: Step = ("one", || Ok(Outcome::Done));
        assert_eq!(steps(&[one]).unwrap(), "all 1 steps passed");
        assert_eq!(
            steps(&[one, ("two", || Ok(Outcome::Skipped("no tool")))]).unwrap(),
            "1 steps passed, skipped: two"
        );
        let less: Step = ("three", || Ok(Outcome::Without("4 tests".to_owned())));
        assert_eq!(steps(&[one, less]).unwrap(), "all 2 steps passed; NOT RUN: 4 tests");
    }
}
