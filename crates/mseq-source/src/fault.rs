use std::io;

use crate::Error;

/// What a reading layer found wrong, carried through [`io::Error`] up to where the place is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("truncated gzip data")]
    TruncatedGzip,
    #[error("damaged gzip data: {0}")]
    CorruptGzip(String),
    #[error("{what} compression")]
    Compression { what: &'static str, cat: &'static str },
    /// A byte that would be lost or misread at a line level: a `>` inside a line, a lone CR.
    #[error("stray byte {0:#04x}")]
    Stray(u8),
    #[error("definition line of more than {0} bytes")]
    LongDefinition(usize),
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }
}

/// The fault inside an I/O error, if that is what it is.
pub(crate) fn fault_of(e: &io::Error) -> Option<&Fault> {
    e.get_ref()?.downcast_ref()
}

/// The error for the user, outside a sequence.
pub(crate) fn place(e: io::Error, path: &str, line: u64) -> Error {
    let path = path.to_owned();
    match fault_of(&e) {
        Some(Fault::TruncatedGzip) => Error::TruncatedGzip { path },
        Some(Fault::CorruptGzip(cause)) => Error::CorruptGzip { path, cause: cause.clone() },
        Some(Fault::Compression { what, cat }) => Error::Compression { path, what, cat },
        Some(Fault::Stray(_)) => Error::CarriageReturn { path, line },
        Some(Fault::LongDefinition(limit)) => Error::LongDefinition { path, line, limit: *limit },
        None => Error::Io { path, cause: e },
    }
}
