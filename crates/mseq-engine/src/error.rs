/// Why an engine can't start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model can't be used.
    #[error(transparent)]
    Model(#[from] mseq_model::Error),
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] mseq_backend::Error),
    /// CUDA was asked for.
    #[error("device {asked}: this build has no CUDA engine; use --device cpu")]
    NoCuda {
        /// What was asked for.
        asked: String,
    },
    /// Too many windows overlap.
    #[error(
        "windows of {length} bases every {stride} keep {open} windows open at once, which needs {bytes} bytes; \
         use a larger --stride or a smaller --window"
    )]
    TooManyWindows {
        /// Window length.
        length: u64,
        /// Stride.
        stride: u64,
        /// Windows open at one base.
        open: u64,
        /// Bytes of their sums.
        bytes: u64,
    },
    /// A resumed job reads another input.
    #[error("the input is not the one that the unfinished run read")]
    OtherInput,
    /// A snapshot does not fit the model.
    #[error("the checkpoint does not fit the model: {0}")]
    Snapshot(String),
    /// Items came in an order that no source makes.
    #[error("internal: {0}")]
    Stream(&'static str),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
