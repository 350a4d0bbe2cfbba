use std::collections::HashMap;
use std::ffi::OsString;

use clap::Parser;

use crate::args::{Cli, RunArgs};
use crate::{Failure, say};

/// Fails when two jobs write one file: the first would be lost.
fn apart(jobs: &[(Cli, Vec<OsString>)]) -> Result<(), String> {
    let mut seen = HashMap::new();
    for (i, (cli, _)) in jobs.iter().enumerate() {
        let Some(output) = cli.command.output() else { continue };
        let Ok(path) = std::path::absolute(&output) else { continue };
        if let Some(before) = seen.insert(path, i + 1) {
            return Err(format!(
                "jobs {before} and {} both write {}; give each an output of its own",
                i + 1,
                output.display()
            ));
        }
    }
    Ok(())
}

/// `mamba-seq run`: one job, or a list of them with a summary.
///
/// A list is read whole before its first job runs, so that a misspelt option of the last one is found
/// at once. What fails while it runs, such as a broken input, is said, and the rest goes on unless the
/// list says `on_failure = "stop"`; the exit code is then 1.
pub(crate) fn run(args: &RunArgs, quiet: bool) -> Result<(), Failure> {
    let pipeline = args.pipeline()?;
    let mut jobs = Vec::new();
    for (i, line) in pipeline.jobs.into_iter().enumerate() {
        match Cli::try_parse_from(&line) {
            Ok(cli) => jobs.push((Cli { quiet: quiet || cli.quiet, ..cli }, line)),
            Err(e) => {
                // clap's first line, which names the option.
                let text = e.to_string();
                let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let job = if pipeline.is_list {
                    format!("{}: job {}: ", args.file(), i + 1)
                } else {
                    String::new()
                };
                return Err(Failure::Usage(job + &first));
            }
        }
    }
    apart(&jobs).map_err(|what| Failure::Usage(format!("{}: {what}", args.file())))?;
    if !pipeline.is_list {
        return jobs.into_iter().try_for_each(|(cli, line)| super::run(cli, &line));
    }
    // -q behind the file's name went to each job.
    let quiet = quiet || jobs.iter().all(|(cli, _)| cli.quiet);
    let (all, mut done, mut failed) = (jobs.len(), 0, Vec::new());
    for (i, (cli, line)) in jobs.into_iter().enumerate() {
        if !quiet {
            say::line(&format!("job {} of {all}: {}", i + 1, super::embed::command_text(&line)));
        }
        match super::run(cli, &line) {
            Ok(()) => done += 1,
            Err(Failure::Signal(signal, message)) => return Err(Failure::Signal(signal, message)),
            Err(Failure::Quiet) => return Err(Failure::Quiet),
            Err(failure) => {
                let message = failure.message().unwrap_or_default();
                say::error(&format!("job {} of {all}: {message}", i + 1));
                failed.push((i + 1).to_string());
                if !pipeline.goes_on {
                    break;
                }
            }
        }
    }
    let left = all - done - failed.len();
    let left = if left > 0 { format!(", {left} not begun") } else { String::new() };
    if failed.is_empty() {
        if !quiet {
            say::line(&format!("{}: all {all} jobs done", args.file()));
        }
        return Ok(());
    }
    Err(Failure::Run(format!(
        "{}: {done} of {all} jobs done, {} failed (number {}){left}; the others are complete",
        args.file(),
        failed.len(),
        failed.join(", ")
    )))
}
