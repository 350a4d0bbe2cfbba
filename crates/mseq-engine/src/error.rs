use mseq_core::DType;

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
    /// CUDA was asked for and can't be used.
    #[error("device {asked}: {why}; see `mamba-seq doctor`, or use --device cpu")]
    NoCuda {
        /// What was asked for.
        asked: String,
        /// What is missing.
        why: mseq_cuda::Unavailable,
    },
    /// Several devices were asked for.
    #[error(
        "device {asked}: this command runs on one device (`embed`, `score` and `classify` take several); use cuda:I"
    )]
    OneDevice {
        /// What was asked for.
        asked: String,
    },
    /// The device has not the arithmetic that was asked for.
    #[error("--dtype {dtype}: {device} has {has}")]
    NoSuchType {
        /// The device.
        device: String,
        /// What was asked for.
        dtype: DType,
        /// What it has.
        has: &'static str,
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
    /// The thread of a device can't be started.
    #[error("cannot start a thread for the device ({0})")]
    Thread(std::io::Error),
    /// Tokens can't be read.
    #[error("{0}")]
    Input(String),
    /// Items came in an order that no source makes.
    #[error("internal: {0}")]
    Stream(&'static str),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether a smaller step may fit where this one did not.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self.backend(), Some(mseq_backend::Error::OutOfMemory { .. }))
    }

    /// Whether the device failed, for want of memory or for another reason.
    pub fn is_device(&self) -> bool {
        let device = self.backend().is_some_and(|e| matches!(e, mseq_backend::Error::Device { .. }));
        device || self.is_out_of_memory()
    }

    fn backend(&self) -> Option<&mseq_backend::Error> {
        match self {
            Self::Backend(e) | Self::Model(mseq_model::Error::Backend(e)) => Some(e),
            _ => None,
        }
    }
}
