use std::path::PathBuf;

/// Why there is no head, or no verdict on one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that can't be read or written.
    #[error("'{}': {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and how to mend it.
        message: String,
    },
    /// Labels that do not suit.
    #[error("{0}")]
    Labels(String),
    /// A head of another model, layer or pool.
    #[error("'{}' was fitted on {of}, and these embeddings are of {found}; embed with that, or fit a head anew", path.display())]
    Other {
        /// The head.
        path: PathBuf,
        /// What it was fitted on.
        of: String,
        /// What it was to be used on.
        found: String,
    },
    /// The solver gave up.
    #[error("the fit failed: {0}; use a larger --strength")]
    Solver(String),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn file(path: &std::path::Path, message: impl ToString) -> Self {
        Self::File { path: path.to_owned(), message: message.to_string() }
    }
}
