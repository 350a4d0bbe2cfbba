use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mseq_core::{EmbeddingDType, Layer, ListType, Pool};
use mseq_model::Checkpoint;
use mseq_pipeline::Track;

use super::{JobArgs, JobPlan};
use crate::Failure;

/// What a job makes of each window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// Its hidden states.
    Embed { dtype: EmbeddingDType, list: ListType },
    /// How likely its tokens are.
    Score,
    /// What it is. The head is a file, or the model's own.
    Classify { head: Option<PathBuf>, list: ListType },
}

impl Task {
    /// The command.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::Score => "score",
            Self::Classify { .. } => "classify",
        }
    }

    /// Of the default output.
    pub(crate) fn stem(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embeddings",
            Self::Score => "scores",
            Self::Classify { .. } => "classes",
        }
    }

    /// The file of its head.
    pub(crate) fn head(&self) -> Option<&Path> {
        match self {
            Self::Classify { head, .. } => head.as_deref(),
            _ => None,
        }
    }

    /// The track that an output of this name is; `None` for Parquet.
    pub(crate) fn track(&self, path: &Path) -> Option<Track> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match (self, ending.as_str()) {
            (Self::Score, "bedgraph" | "bdg" | "bg") => Some(Track::BedGraph),
            (Self::Score, "bw" | "bigwig") => Some(Track::BigWig { lengths: None }),
            _ => None,
        }
    }
}

/// `embed`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,

    /// How the tokens of a window become a row; none gives one row a token
    #[arg(long, value_enum, default_value_t)]
    pool: PoolArg,

    /// Which hidden states: 0 the embedding, K after block K, last after the final norm
    #[arg(long, value_name = "K", default_value = "last", allow_hyphen_values = true)]
    layer: Layer,

    /// Element type of the embedding column
    #[arg(long, value_enum, default_value_t)]
    embedding_dtype: EmbeddingDTypeArg,

    /// Arrow type of the embedding column
    #[arg(long, value_enum, default_value_t)]
    list_type: ListTypeArg,
}

/// `score`.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "-o FILE.bedgraph (.bdg, .bg) and FILE.bigwig (.bw) write bits a base as a track; anything else is Parquet.\n\
                  --window 1 gives one row a token. Only models that read from left to right have these likelihoods:\n\
                  masked ones (Caduceus, BERT-like) need --mask-stride, which is not built yet."
)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
}

/// `classify`.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Layer and pooling are those of the head: a fitted one knows them, the model's own has them in config.json."
)]
pub(crate) struct ClassifyArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,

    /// Head that `head fit` wrote [default: the model's own: score.*, classifier.*,
    /// classification_head.*]
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,

    /// Arrow type of the probabilities column
    #[arg(long, value_enum, default_value_t)]
    list_type: ListTypeArg,
}

impl ClassifyArgs {
    /// Checks the arguments, as [`JobArgs::resolve`]; pool and layer are yet to come from the head.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn resolve(&self, checkpoint: &Checkpoint) -> Result<JobPlan, Failure> {
        let task = Task::Classify { head: self.head.clone(), list: self.list_type.list() };
        self.job.resolve(checkpoint, task, Pool::Mean, Layer::Last)
    }
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum PoolArg {
    #[default]
    Mean,
    Max,
    Last,
    None,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum EmbeddingDTypeArg {
    #[default]
    F32,
    F16,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum ListTypeArg {
    #[default]
    Fixed,
    Variable,
}

impl PoolArg {
    pub(crate) fn pool(self) -> Pool {
        match self {
            Self::Mean => Pool::Mean,
            Self::Max => Pool::Max,
            Self::Last => Pool::Last,
            Self::None => Pool::None,
        }
    }
}

impl ListTypeArg {
    pub(crate) fn list(self) -> ListType {
        match self {
            Self::Fixed => ListType::Fixed,
            Self::Variable => ListType::Variable,
        }
    }
}

impl EmbedArgs {
    /// Checks the arguments, as [`JobArgs::resolve`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn resolve(&self, checkpoint: &Checkpoint) -> Result<JobPlan, Failure> {
        let dtype = match self.embedding_dtype {
            EmbeddingDTypeArg::F32 => EmbeddingDType::F32,
            EmbeddingDTypeArg::F16 => EmbeddingDType::F16,
        };
        let task = Task::Embed { dtype, list: self.list_type.list() };
        self.job.resolve(checkpoint, task, self.pool.pool(), self.layer)
    }
}

impl ScoreArgs {
    /// Checks the arguments, as [`JobArgs::resolve`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn resolve(&self, checkpoint: &Checkpoint) -> Result<JobPlan, Failure> {
        self.job.resolve(checkpoint, Task::Score, Pool::Nll, Layer::Last)
    }
}
