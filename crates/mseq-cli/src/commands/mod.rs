//! One file a command.

mod bench;
mod budget;
mod doctor;
mod drawn;
mod embed;
mod enhance;
mod generate;
mod head;
mod merge;
mod model_verify;
mod models;
mod pipeline;
mod plan;
mod select;
mod variants;
mod verify;
mod verify_audio;

use std::ffi::OsString;
use std::path::Path;

use clap::CommandFactory;
use mseq_model::{Checkpoint, Modality, ModelFiles};

use crate::args::{Cli, Command};
use crate::{Failure, say};

/// Runs the command that was parsed from `line`.
pub(crate) fn run(cli: Cli, line: &[OsString]) -> Result<(), Failure> {
    match cli.command {
        Command::Embed(args) => {
            let checkpoint = Checkpoint::open(model_files(args.job.model()?)?)?;
            let plan = args.resolve(&checkpoint)?;
            embed::run(&args.job, checkpoint, plan, cli.quiet, cli.verbose, line)
        }
        Command::Classify(args) => {
            let checkpoint = Checkpoint::open(model_files(args.job.model()?)?)?;
            let plan = args.resolve(&checkpoint)?;
            embed::run(&args.job, checkpoint, plan, cli.quiet, cli.verbose, line)
        }
        Command::Head(command) => head::run(&command, cli.quiet, line),
        Command::Score(args) => {
            let checkpoint = Checkpoint::open(model_files(args.job.model()?)?)?;
            let plan = args.resolve(&checkpoint)?;
            embed::run(&args.job, checkpoint, plan, cli.quiet, cli.verbose, line)
        }
        Command::Variants(args) => variants::run(&args, cli.quiet, line),
        Command::Generate(args) => generate::run(&args, cli.quiet),
        Command::Merge(args) => merge::run(&args, cli.quiet, line),
        Command::Run(args) => pipeline::run(&args, cli.quiet),
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
        Command::Enhance(args) => enhance::run(&args, cli.quiet),
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
