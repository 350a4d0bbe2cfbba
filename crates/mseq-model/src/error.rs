use std::io;

/// Why a model can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model directory or file does not exist.
    #[error(
        "no such model: {path}; give a directory with config.json and *.safetensors, or a built-in name (see `mamba-seq models list`)"
    )]
    NoSuchModel {
        /// What was asked for.
        path: String,
    },
    /// A classification head that is missing or can't be used.
    #[error("{model}: {message}")]
    ClassHead {
        /// The model.
        model: String,
        /// What is wrong and how to mend it.
        message: String,
    },
    /// There is nothing to predict tokens with.
    #[error(
        "{model}: no lm_head.weight, and config.json does not tie the head to the embedding; likelihoods need a model with a language-model head"
    )]
    NoHead {
        /// The model.
        model: String,
    },
    /// A model of masked tokens, asked for what it never learned.
    #[error(
        "{path}: architectures names {said}, a masked model: it has no likelihood of a token given only those to its left, which \
         score, variants and generate need (--mask-stride, for pseudo-likelihoods, is not built yet); use a causal model, or embed"
    )]
    Masked {
        /// The file.
        path: String,
        /// The class.
        said: String,
    },
    /// A model that reads samples, and has no tokens to predict.
    #[error(
        "{model}: reads samples, not tokens, and predicts none; use `embed`, or give a model of tokens with --model (of audio: mulaw8)"
    )]
    NoTokens {
        /// The model.
        model: String,
    },
    /// A model that gives no audio.
    #[error("{model}: has no decoder; `enhance` needs a model that gives audio, such as CleanUMamba")]
    NoDecoder {
        /// The model.
        model: String,
    },
    /// A file of the directory is missing.
    #[error("{model}: no {file}; {hint}")]
    MissingFile {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// How to mend it.
        hint: &'static str,
    },
    /// A file can't be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// A JSON file is broken.
    #[error("{path}: line {line}, column {column}: {message}; the file is not valid JSON")]
    Json {
        /// The file.
        path: String,
        /// 1-based.
        line: usize,
        /// 1-based.
        column: usize,
        /// What the parser said.
        message: String,
    },
    /// A key of a config is missing or has the wrong type.
    #[error("{path}: {message}")]
    Config {
        /// The file.
        path: String,
        /// What is wrong and how to mend it.
        message: String,
    },
    /// A model of a known family that this version can't run.
    #[error(
        "{model}: {family} models are not supported yet; supported: Mamba-1, Hugging Face (model_type mamba) or original layout, and CleanUMamba with Mamba-1 blocks"
    )]
    UnsupportedFamily {
        /// The model.
        model: String,
        /// Name of the family.
        family: String,
    },
    /// A safetensors file is broken.
    #[error("{path}: {message}")]
    Safetensors {
        /// The file.
        path: String,
        /// What is wrong and how to mend it.
        message: String,
    },
    /// Tensors that don't fit the config, all of them in one message.
    #[error("{model}: {problems}")]
    Tensors {
        /// The model.
        model: String,
        /// Missing, unexpected and misshapen tensors.
        problems: String,
    },
    /// A weight is NaN or infinite.
    #[error(
        "{path}: tensor '{tensor}' holds {value} at index {index}; the checkpoint is damaged or its training diverged"
    )]
    NotFinite {
        /// The file.
        path: String,
        /// The tensor.
        tensor: String,
        /// Flat, 0-based.
        index: usize,
        /// What was found.
        value: f32,
    },
    /// A layer that the model does not have.
    #[error("layer {layer} is not in {model}: it has layers 0 to {n_layer}; use one of these, or last")]
    NoSuchLayer {
        /// The model.
        model: String,
        /// What was asked for.
        layer: usize,
        /// Blocks of the model.
        n_layer: usize,
    },
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] mseq_backend::Error),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
