use std::io;
use std::path::{Path, PathBuf};

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;

/// `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why rows could not be written.
///
/// The message holds the cause, so [`source`](std::error::Error::source) is always `None`: printing
/// the error alone, or its chain, gives the same one line. Positions are 0-based in the fields and
/// 1-based in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder of the output does not exist.
    #[error("output folder '{f}' does not exist; make it with mkdir -p {f}", f = folder.display())]
    NoFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// What should be the folder of the output is something else.
    #[error("output folder '{}' is not a folder; choose another path with -o", folder.display())]
    NotAFolder {
        /// The would-be folder.
        folder: PathBuf,
    },
    /// The output is a folder.
    #[error("output '{}' is a folder; name a file in it with -o", path.display())]
    IsFolder {
        /// The output.
        path: PathBuf,
    },
    /// The output cannot be opened.
    #[error("cannot create '{}': {cause}; {}", path.display(), advice(cause))]
    Create {
        /// The output.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The output cannot be written to its end.
    #[error("cannot write '{}': {cause}; {}", path.display(), advice(cause))]
    Write {
        /// The output.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The reader of a pipe has gone: for `| head`, no failure at all.
    #[error("the reader of the output closed it; nothing more was written")]
    BrokenPipe,
    /// The Parquet encoder refused: a wrong option, or a bug.
    #[error("cannot encode '{}': {cause}; check the options, else please report it", path.display())]
    Parquet {
        /// The output.
        path: PathBuf,
        /// What the encoder said.
        cause: ParquetError,
    },
    /// The Arrow encoder refused: a bug.
    #[error("cannot encode the rows: {cause}; please report it")]
    Arrow {
        /// What the encoder said.
        cause: ArrowError,
    },
    /// A layout that no list type can hold.
    #[error("an embedding of {dim} channels cannot be written; use a model with 1 to {} channels", i32::MAX)]
    Dim {
        /// Channels asked for.
        dim: usize,
    },
    /// A block that does not fit the layout: a bug of the caller.
    #[error(
        "a block of {rows} rows has {values} values of {dim} channels, not {rows} x {want}; please report it"
    )]
    Shape {
        /// Keys in the block.
        rows: usize,
        /// Numbers in the block.
        values: usize,
        /// Channels the block claims.
        dim: usize,
        /// Channels of the layout.
        want: usize,
    },
    /// Two kept columns of one name.
    #[error("two kept columns are called '{column}'; rename one in the table")]
    KeptTwice {
        /// Its name in the output.
        column: String,
    },
    /// Kept values that do not fit the layout: a bug of the caller.
    #[error("{columns} kept columns do not fit the {want} of the output; please report it")]
    KeptShape {
        /// Columns given.
        columns: usize,
        /// Columns of the layout.
        want: usize,
    },
    /// A row whose record has no kept values: a bug of the caller.
    #[error("record number {record} came without its kept columns; please report it")]
    KeptMissing {
        /// Index of the record in the input.
        record: u64,
    },
    /// Kept values other than those of the run that is gone on with.
    #[error(
        "the kept columns are not those that the unfinished run read; run again without --resume to start afresh"
    )]
    OtherKept,
    /// A number too large for half precision.
    #[error("record '{record}', row at {}, channel {}: {value} is too large for f16; use --embedding-dtype f32",
        start + 1, channel + 1)]
    F16Overflow {
        /// Record id.
        record: String,
        /// First position of the row, 0-based.
        start: u64,
        /// Channel, 0-based.
        channel: usize,
        /// The number.
        value: f32,
    },
    /// NaN or an infinity among the numbers.
    #[error("record '{record}', row at {}, channel {}: the model gave {value}; check the weights, or use --dtype f32",
        start + 1, channel + 1)]
    NotFinite {
        /// Record id.
        record: String,
        /// First position of the row, 0-based.
        start: u64,
        /// Channel, 0-based.
        channel: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// Rows that a bigWig file can't hold.
    #[error("'{}': {message}", path.display())]
    Track {
        /// The output.
        path: PathBuf,
        /// What is wrong and how to mend it.
        message: String,
    },
    /// Another job writes the same output.
    #[error("'{}' is being written by another run; wait for it, or choose another output with -o", path.display())]
    Busy {
        /// The log of the other run.
        path: PathBuf,
    },
    /// The log of an unfinished run is damaged.
    #[error("'{}': {message}; run again without --resume to start afresh", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Files that are not, together, the shards of one job.
    #[error("{message}")]
    Shards {
        /// Which file, and what is wrong with it.
        message: String,
    },
    /// An earlier call failed, and rows are missing.
    #[error("the output is incomplete after an earlier error; start the job again")]
    Failed,
}

impl Error {
    /// Two records of one name in a track, which has nothing else to tell them apart by.
    pub fn same_name(path: &Path, name: &str) -> Self {
        let message =
            format!("two records are called '{name}', and a track can't tell them apart; write .parquet");
        Self::Track { path: path.to_owned(), message }
    }

    /// An error of writing to `path`, with a closed pipe told apart.
    pub(crate) fn write(path: &Path, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::BrokenPipe => Error::BrokenPipe,
            _ => Error::Write { path: path.to_owned(), cause },
        }
    }

    /// The same for what the Parquet writer says, which boxes the system's errors.
    pub(crate) fn parquet(path: &Path, cause: ParquetError) -> Self {
        match cause {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(io) => Self::write(path, *io),
                Err(other) => Error::Parquet { path: path.to_owned(), cause: ParquetError::External(other) },
            },
            cause => Error::Parquet { path: path.to_owned(), cause },
        }
    }
}

impl From<ArrowError> for Error {
    fn from(cause: ArrowError) -> Self {
        Error::Arrow { cause }
    }
}

/// What to do about `cause`.
fn advice(cause: &io::Error) -> &'static str {
    use io::ErrorKind as K;
    match cause.kind() {
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => {
            "free some space or choose another folder with -o"
        }
        K::PermissionDenied | K::ReadOnlyFilesystem => "choose a folder that you may write to with -o",
        _ => "choose another output with -o",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_come_out_of_the_encoder() {
        let boxed = |kind| ParquetError::External(Box::new(io::Error::from(kind)));
        let path = Path::new("x.parquet");
        assert!(matches!(Error::parquet(path, boxed(io::ErrorKind::BrokenPipe)), Error::BrokenPipe));
        let full = Error::parquet(path, boxed(io::ErrorKind::StorageFull)).to_string();
        assert_eq!(
            full,
            "cannot write 'x.parquet': no storage space; free some space or choose another folder with -o"
        );
        assert!(matches!(Error::parquet(path, ParquetError::General(String::new())), Error::Parquet { .. }));
    }

    #[test]
    fn messages() {
        let e = Error::NoFolder { folder: "x/y".into() };
        assert_eq!(e.to_string(), "output folder 'x/y' does not exist; make it with mkdir -p x/y");
        let e = Error::F16Overflow { record: "chr2".into(), start: 99, channel: 3, value: 1e6 };
        assert_eq!(
            e.to_string(),
            "record 'chr2', row at 100, channel 4: 1000000 is too large for f16; use --embedding-dtype f32"
        );
    }
}
