use std::fmt;
use std::path::PathBuf;

/// A signal that ended a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, as from Ctrl-C.
    Interrupt,
    /// SIGTERM, as from a batch system.
    Terminate,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Interrupt => "interrupted (SIGINT)",
            Signal::Terminate => "terminated (SIGTERM)",
        })
    }
}

/// Why a job ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A saved state of a generation can't be used.
    #[error("{path}: {message}")]
    SavedState {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// The input.
    #[error(transparent)]
    Source(#[from] mseq_source::Error),
    /// The model or device.
    #[error(transparent)]
    Engine(#[from] mseq_engine::Error),
    /// The output.
    #[error(transparent)]
    Sink(#[from] mseq_sink::Error),
    /// There is no room for rows that wait to be put in order.
    #[error("{}: cannot keep rows there ({cause}); set TMPDIR to a folder with space, or write to a file", folder.display())]
    Spool {
        /// The folder for temporary files.
        folder: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A signal. `saved`: the checkpointed log, when there is one.
    #[error("{signal}; {}", match saved {
        Some(path) => format!("the work so far is in {}: add --resume to go on", path.display()),
        None => "nothing was written to the output".to_owned(),
    })]
    Signal {
        /// Which.
        signal: Signal,
        /// Where the work is saved.
        saved: Option<PathBuf>,
    },
    /// The device failed after work was saved.
    #[error("{cause}; the work so far is in {}: add --resume to go on, on any device of the same --dtype", saved.display())]
    Device {
        /// What failed.
        cause: mseq_engine::Error,
        /// The log that the checkpoint belongs to.
        saved: PathBuf,
    },
    /// A standard input or pipe can't be copied, to be read twice.
    #[error("{path}: a copy in the temporary folder: {cause}; set TMPDIR to a folder with space")]
    Copy {
        /// The input.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A checkpoint can't be written or read.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong, and how to mend it.
        message: String,
    },
    /// `--resume` of another job.
    #[error("{} is of another job: {differences}; give the same options, or run without --resume to start afresh", path.display())]
    OtherJob {
        /// The log.
        path: PathBuf,
        /// What differs.
        differences: String,
    },
    /// The reader of standard output went away: not a failure.
    #[error("standard output was closed")]
    BrokenPipe,
    /// The stage on the other side of a queue ended; its own error says why.
    #[error("a stage ended early")]
    Closed,
    /// Threads can't be started, or a stage panicked.
    #[error("internal: {0}")]
    Internal(String),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
