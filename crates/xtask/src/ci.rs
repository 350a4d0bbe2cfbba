//! Everything that must hold before a change lands, in the order of how soon it tells.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    layers, shell,
};

/// Tests that wait for a GPU: none yet, as there is no CUDA engine.
const GPU_TESTS: u32 = 0;

enum Outcome {
    Done,
    Skipped(&'static str),
}

type Step = (&'static str, fn() -> Result<Outcome>);

const STEPS: &[Step] = &[
    ("fmt", || cargo(&["fmt", "--all", "--check"], &[])),
    ("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])),
    ("doc", || cargo(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])),
    ("test", || cargo(&["test", "--workspace"], &[])),
    ("layers", || layers::run().map(|()| Outcome::Done)),
    ("deny", deny),
];

pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    let summary = steps(STEPS)?;
    println!("{GPU_TESTS} tests were skipped for want of a GPU (there is no CUDA engine yet)");
    println!("ci: {summary}, {}", seconds(start.elapsed()));
    Ok(())
}

/// Runs one after the other up to the first failure.
fn steps(steps: &[Step]) -> Result<String> {
    let mut skipped = Vec::new();
    for (at, (name, step)) in steps.iter().enumerate() {
        println!("ci: {name}");
        let start = Instant::now();
        match step() {
            Ok(Outcome::Done) => println!("ci: {name} passed, {}", seconds(start.elapsed())),
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
        [] => format!("all {passed} steps passed"),
        names => format!("{passed} steps passed, skipped: {}", names.join(", ")),
    })
}

fn cargo(args: &[&str], environment: &[(&str, &str)]) -> Result<Outcome> {
    shell::run(shell::cargo().args(args).envs(environment.iter().copied()))?;
    Ok(Outcome::Done)
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
    }
}
