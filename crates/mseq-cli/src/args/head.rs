use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use mseq_head::{ClassWeight, Strength};

use crate::Failure;

/// `head fit` and `head eval`.
#[derive(Debug, Subcommand)]
pub(crate) enum HeadCommand {
    /// Fits a head on embeddings and labels: logistic regression for classes, ridge for numbers
    Fit(FitArgs),
    /// Says how well a head does on embeddings and labels
    Eval(EvalArgs),
}

/// Rows and what they are.
#[derive(Debug, Args)]
pub(crate) struct Labelled {
    /// Parquet files that `embed` wrote, of one model, layer and pool
    #[arg(required = true, value_name = "EMBEDDINGS")]
    pub(crate) embeddings: Vec<PathBuf>,

    /// Column with the labels, which `embed --keep COL` carried along
    #[arg(long, value_name = "COL", conflicts_with = "labels")]
    pub(crate) label: Option<String>,

    /// File with a record id, a tab and a label in each line
    #[arg(long, value_name = "TSV")]
    pub(crate) labels: Option<PathBuf>,
}

impl Labelled {
    /// # Errors
    /// When neither a column nor a file is named.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.label.is_none() && self.labels.is_none() {
            return Err(Failure::Usage("labels are missing: give --label COL or --labels TSV".into()));
        }
        Ok(())
    }

    /// All files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.embeddings.iter().chain(&self.labels).map(PathBuf::as_path)
    }
}

/// `head fit`.
#[derive(Debug, Args)]
pub(crate) struct FitArgs {
    #[command(flatten)]
    pub(crate) data: Labelled,

    /// Head to write
    #[arg(short, long, value_name = "FILE", default_value = "head.safetensors")]
    pub(crate) output: PathBuf,

    /// Labels are numbers: ridge regression in place of classes
    #[arg(long)]
    pub(crate) numeric: bool,

    /// Strength of the L2 penalty (1/C of scikit-learn, alpha of its Ridge), or cv for the power of
    /// ten that does best on held-out rows
    #[arg(long, value_name = "X|cv", default_value = "cv", allow_hyphen_values = true)]
    strength: String,

    /// Parts for cross-validation
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=100))]
    folds: u32,

    /// How much the rows of a class count: all the same, or every class as much as any other
    #[arg(long, value_enum, default_value_t)]
    class_weight: ClassWeightArg,

    /// For the folds of cross-validation
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

impl FitArgs {
    /// # Errors
    /// When the strength is neither cv nor a number from 0.
    pub(crate) fn strength(&self) -> Result<Strength, Failure> {
        if self.strength == "cv" {
            return Ok(Strength::CrossValidated { folds: self.folds as usize });
        }
        match self.strength.parse::<f64>() {
            Ok(x) if x.is_finite() && x >= 0.0 => Ok(Strength::Fixed(x)),
            _ => Err(Failure::Usage(format!("--strength {}: use cv, or a number from 0", self.strength))),
        }
    }

    pub(crate) fn class_weight(&self) -> ClassWeight {
        match self.class_weight {
            ClassWeightArg::None => ClassWeight::None,
            ClassWeightArg::Balanced => ClassWeight::Balanced,
        }
    }
}

/// `head eval`.
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Head that `head fit` wrote
    #[arg(value_name = "HEAD")]
    pub(crate) head: PathBuf,

    #[command(flatten)]
    pub(crate) data: Labelled,

    /// Write the figures as JSON too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// For the resamples of the intervals
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// `--class-weight`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum ClassWeightArg {
    #[default]
    None,
    Balanced,
}
