use std::{fmt, io, path::PathBuf, process::ExitStatus};

/// Why a task did not succeed.
#[derive(Debug)]
pub(crate) enum Error {
    /// Called in a wrong way.
    Usage(String),
    /// A rule does not hold, or a tool is missing: the text says which.
    Failed(String),
    /// A program that cannot be started.
    Start { program: String, source: io::Error },
    /// A program that ran and was not content.
    Status { command: String, status: ExitStatus },
    /// A file that cannot be written.
    Write { path: PathBuf, source: io::Error },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) | Error::Failed(text) => f.write_str(text),
            Error::Start { program, source } => write!(f, "cannot start {program}: {source}"),
            Error::Status { command, status } => write!(f, "{command}: {status}"),
            Error::Write { path, source } => write!(f, "cannot write {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Start { source, .. } | Error::Write { source, .. } => Some(source),
            Error::Usage(_) | Error::Failed(_) | Error::Status { .. } => None,
        }
    }
}
