//! One file a command.

mod bench;
mod budget;
mod doctor;
mod embed;
mod enhance;
mod merge;
mod models;
mod plan;
mod select;
mod verify;
mod verify_audio;

use std::ffi::OsString;
use std::path::Path;

use clap::{CommandFactory, Parser};
use mseq_model::{Checkpoint, Modality, ModelFiles};

use crate::args::{Cli, Command};
use crate::{Failure, say};

/// Runs the command that was parsed from `line`.
pub(crate) fn run(cli: Cli, line: &[OsString]) -> Result<(), Failure> {
    match cli.command {
        Command::Embed(args) => embed::run(&args, cli.quiet, cli.verbose, line),
        Command::Merge(args) => merge::run(&args, cli.quiet, line),
        Command::Run(args) => {
            let line = args.command_line()?;
            match Cli::try_parse_from(&line) {
                // Only `embed` comes out of a file, so this ends after one turn.
                Ok(inner) => run(Cli { quiet: cli.quiet || inner.quiet, ..inner }, &line),
                Err(e) => {
                    // clap's first line, which names the option.
                    let text = e.to_string();
                    let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
                    Err(Failure::Usage(first.to_owned()))
                }
            }
        }
        Command::Models(command) => models::run(command),
        Command::Doctor { verify: true, device, kernels_from } => verify::run(&device, kernels_from),
        Command::Doctor { verify: false, .. } => doctor::run(),
        Command::Bench(args) => bench::run(&args, cli.quiet),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "mamba-seq", &mut script);
            say::out(&String::from_utf8_lossy(&script))
        }
        Command::Man => {
            let mut page = Vec::new();
            let man = clap_mangen::Man::new(Cli::command());
            man.render(&mut page).map_err(|e| Failure::Run(format!("manual page: {e}")))?;
            say::out(&String::from_utf8_lossy(&page))
        }
        Command::Score(_) => Err(Failure::not_built("`score`")),
        Command::Classify(_) => Err(Failure::not_built("`classify`")),
        Command::Enhance(args) => enhance::run(&args, cli.quiet),
        Command::Head(_) => Err(Failure::not_built("`head`")),
        Command::Variants(_) => Err(Failure::not_built("`variants`")),
        Command::Generate(_) => Err(Failure::not_built("`generate`")),
        Command::Report(_) => Err(Failure::not_built("`report`")),
    }
}

/// A built-in model of that name, else the directory or file.
fn model_files(name: &str) -> Result<ModelFiles, Failure> {
    match mseq_data::find(name) {
        Some(builtin) => Ok(ModelFiles::Builtin { name: builtin.name, files: builtin.files }),
        None => Ok(ModelFiles::at(Path::new(name))?),
    }
}

/// Fails for a model of audio.
fn reads_dna(checkpoint: &Checkpoint) -> Result<(), Failure> {
    match checkpoint.modality() {
        Modality::Dna => Ok(()),
        Modality::Audio => Err(Failure::Run(format!(
            "{}: reads audio, and this command reads DNA; `enhance` takes CleanUMamba",
            checkpoint.name()
        ))),
    }
}
