//! What clap sees; each command's `resolve` turns it into a checked configuration.

mod apart;
mod bench;
mod developer;
mod enhance;
mod generate;
mod head;
mod inputs;
mod job;
mod keep;
mod memory;
mod merge;
mod models;
mod not_built;
mod reading;
mod run;
mod task;
mod track;
mod variants;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use mseq_core::DeviceSpec;

pub(crate) use apart::keep_apart;
pub(crate) use bench::BenchArgs;
pub(crate) use developer::DeveloperArgs;
pub(crate) use enhance::{EnhanceArgs, Normalize};
pub(crate) use generate::GenerateArgs;
pub(crate) use head::{EvalArgs, FitArgs, HeadCommand, Labelled};
pub(crate) use inputs::{Columns, InputPlan};
pub(crate) use job::{AudioPlan, JobArgs, JobPlan, OnBadRecord, Shard};
pub(crate) use keep::Keep;
pub(crate) use memory::MemorySize;
pub(crate) use merge::MergeArgs;
pub(crate) use models::ModelsCommand;
pub(crate) use not_built::{Anything, NotBuiltOptions};
pub(crate) use reading::Reading;
pub(crate) use run::RunArgs;
pub(crate) use task::{ClassifyArgs, EmbedArgs, ScoreArgs, Task};
pub(crate) use variants::{VariantStrand, VariantsArgs};

/// Streams million-length DNA through chunked Mamba inference and writes embeddings to Parquet.
#[derive(Debug, Parser)]
#[command(
    name = "mamba-seq",
    version,
    arg_required_else_help = true,
    after_help = "Example: mamba-seq embed genome.fa\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print the plan before the run
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pooled or per-token hidden states of DNA, as Parquet
    Embed(Box<EmbedArgs>),
    /// Negative log-likelihood of DNA per window or token, as Parquet, bedGraph or bigWig
    Score(Box<ScoreArgs>),
    /// Class probabilities of DNA from a head, as Parquet
    Classify(Box<ClassifyArgs>),
    /// Fit and evaluate heads on embeddings
    #[command(subcommand)]
    Head(HeadCommand),
    /// Effects of SNVs and indels: log-likelihood ratio and embedding distance, as Parquet or annotated VCF
    Variants(Box<VariantsArgs>),
    /// Samples continuations of DNA in recurrent step mode, as FASTA
    Generate(Box<GenerateArgs>),
    /// Joins the files of a sharded run into one, checking that none is missing or doubled
    Merge(MergeArgs),
    /// Built-in models and model directories
    #[command(subcommand)]
    Models(ModelsCommand),
    /// A saved job with all its options
    Run(RunArgs),
    /// What this machine offers, and what is missing
    Doctor {
        /// Compute every op and whole models, and compare: a CUDA device with the CPU, the CPU with f64
        #[arg(long)]
        verify: bool,

        /// What to verify: auto, cpu or cuda:I
        #[arg(long, default_value = "auto", requires = "verify")]
        device: DeviceSpec,

        #[command(flatten)]
        developer: DeveloperArgs,
    },
    /// Tokens a second of this machine on a model, and what bounds them
    Bench(Box<BenchArgs>),
    /// Completion script of a shell, on standard output
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Manual page, on standard output
    Man,
    /// Denoised audio from a model that makes it (CleanUMamba), as WAV
    Enhance(EnhanceArgs),
    /// Not built yet: a page with plots
    #[command(hide = true)]
    Report(Anything),
}

impl Command {
    /// The file that a job of a pipeline writes, as far as the command line tells.
    pub(crate) fn output(&self) -> Option<PathBuf> {
        match self {
            Self::Embed(args) => args.job.named_output("embeddings"),
            Self::Score(args) => args.job.named_output("scores"),
            Self::Classify(args) => args.job.named_output("classes"),
            Self::Head(HeadCommand::Fit(args)) => Some(args.output.clone()),
            Self::Head(HeadCommand::Eval(args)) => args.json.clone(),
            Self::Merge(args) => Some(args.output.clone()),
            Self::Variants(args) => args.named_output(),
            Self::Enhance(args) => Some(args.named_output()),
            Self::Generate(args) => Some(args.output.clone()).filter(|path| path.as_os_str() != "-"),
            _ => None,
        }
    }
}

/// When to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ProgressMode {
    /// A bar on a terminal, nothing in a pipe
    #[default]
    Auto,
    /// Nothing
    Never,
    /// JSON lines on standard error
    Json,
}
