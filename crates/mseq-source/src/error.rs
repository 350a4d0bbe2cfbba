use std::io;

mod audio;
mod bed;
mod index;
mod table;

pub use audio::AudioError;
pub use bed::BedError;
pub use index::IndexError;
pub use table::TableError;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an input cannot be read. Each message is one line that starts with the place.
///
/// `path` is the input as the user named it, `stdin` for standard input; lines and bases are
/// 1-based.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A VCF file.
    #[error(transparent)]
    Vcf(Box<crate::VcfError>),
    /// Nothing was named.
    #[error("no input named; give a file, a directory, a glob or - for stdin")]
    NoInput,
    /// The path does not exist and is no glob.
    #[error("no such file: {path}")]
    NotFound {
        /// The argument.
        path: String,
    },
    /// A glob that matches nothing.
    #[error("no such file, and no match as a glob: {pattern}")]
    NoMatch {
        /// The argument.
        pattern: String,
    },
    /// A glob that cannot be parsed.
    #[error("no such file, and not a glob: {pattern} ({cause})")]
    BadGlob {
        /// The argument.
        pattern: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A directory without any sequence file.
    #[error("{path}: none of the {skipped} files in this directory is FASTA or FASTQ{}", deeper(recursive))]
    NoSequenceFile {
        /// The directory.
        path: String,
        /// Files in it that are something else.
        skipped: usize,
        /// Whether directories below were searched too.
        recursive: bool,
    },
    /// `-` was named more than once.
    #[error("- (stdin) can be read only once; name it once")]
    StdinTwice,
    /// Recordings and sequences in one call.
    #[error(
        "{sound} is audio and {letters} is not, and a model reads one of them; run them one after the other"
    )]
    Mixed {
        /// An input that is a recording.
        sound: String,
        /// An input that is none.
        letters: String,
    },
    /// A known format that this version does not read.
    #[error("{path}: {what} input is not supported yet; {mend}")]
    NotBuilt {
        /// The input.
        path: String,
        /// Name of the format.
        what: &'static str,
        /// What to do instead.
        mend: &'static str,
    },
    /// A known compression that this version does not read.
    #[error("{path}: {what} compression is not supported yet; use: {mend}", mend = pipe(cat, path))]
    Compression {
        /// The input.
        path: String,
        /// Name of the compression.
        what: &'static str,
        /// The program that decompresses to stdout.
        cat: &'static str,
    },
    /// gzip data without its end, or BGZF without its end-of-file block.
    #[error("{path}: the gzip data stops before its end: the file is truncated; copy or download it again")]
    TruncatedGzip {
        /// The input.
        path: String,
    },
    /// gzip data that does not decode.
    #[error("{path}: the gzip data is damaged ({cause}); copy or download it again")]
    CorruptGzip {
        /// The input.
        path: String,
        /// The decoder's words.
        cause: String,
    },
    /// Text or bytes that are no known format.
    #[error("{path}: not FASTA or FASTQ: it starts with \"{start}\", not with > or @")]
    NotSequence {
        /// The input.
        path: String,
        /// The first bytes, escaped.
        start: String,
    },
    /// Nothing, or only blank lines.
    #[error("{path}: holds no record; remove it from the inputs")]
    NoRecord {
        /// The input.
        path: String,
    },
    /// A definition line without an id.
    #[error("{path}: record {record} (line {line}): no id after the '{marker}'; give it one")]
    NoId {
        /// The input.
        path: String,
        /// 1-based number of the record in its file.
        record: u64,
        /// Line.
        line: u64,
        /// `>` or `@`.
        marker: char,
    },
    /// A definition line longer than any real one.
    #[error("{path}: line {line}: a definition line of more than {limit} bytes; the file is damaged")]
    LongDefinition {
        /// The input.
        path: String,
        /// Line.
        line: u64,
        /// Longest that is read.
        limit: usize,
    },
    /// A carriage return outside a sequence that no line feed follows.
    #[error(
        "{path}: line {line}: carriage return without line feed, as old Macs wrote; convert it with tr '\\r' '\\n'"
    )]
    CarriageReturn {
        /// The input.
        path: String,
        /// Line.
        line: u64,
    },
    /// A byte in a sequence that is no IUPAC code, `-` or `*`.
    #[error(
        "{path}: record '{id}', base {base} (line {line}): byte {} is not a nucleotide code; remove it",
        show(byte)
    )]
    NotNucleotide {
        /// The input.
        path: String,
        /// Record id.
        id: String,
        /// Base of the record.
        base: u64,
        /// Line.
        line: u64,
        /// The byte.
        byte: u8,
    },
    /// A FASTQ record that does not start with `@`.
    #[error(
        "{path}: line {line}: FASTQ record {record} starts with byte {}, not with '@'; the file is damaged",
        show(byte)
    )]
    NoAt {
        /// The input.
        path: String,
        /// 1-based number of the record in its file.
        record: u64,
        /// Line.
        line: u64,
        /// The byte.
        byte: u8,
    },
    /// A FASTQ record without a `+` line.
    #[error(
        "{path}: record '{id}' (line {line}): the next record starts before a '+' line; the file is damaged"
    )]
    NoPlus {
        /// The input.
        path: String,
        /// Record id.
        id: String,
        /// Line where the `+` should be.
        line: u64,
    },
    /// A FASTQ record with too few or too many quality characters.
    #[error(
        "{path}: record '{id}' (line {line}): {quality} quality characters for {bases} bases; the file is damaged"
    )]
    QualityLength {
        /// The input.
        path: String,
        /// Record id.
        id: String,
        /// Line where the quality starts.
        line: u64,
        /// Length of the sequence.
        bases: u64,
        /// Length of the quality.
        quality: u64,
    },
    /// A FASTQ file that ends inside a record.
    #[error(
        "{path}: record '{id}' (line {line}): the file ends inside this record: it is truncated; copy or download it again"
    )]
    TruncatedRecord {
        /// The input.
        path: String,
        /// Record id.
        id: String,
        /// Last line.
        line: u64,
    },
    /// An index that is damaged or does not match its file.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A recording that cannot be used.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// A BED file that cannot be used.
    #[error(transparent)]
    Bed(#[from] BedError),
    /// A table that cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The scratch copy of a record does not fit on its disk.
    #[error(
        "{folder}: no space left for the scratch copy of a record read in reverse ({bytes} bytes so far); free some, set TMPDIR to a larger disk, or index the FASTA with samtools faidx"
    )]
    ScratchFull {
        /// Folder of the copy.
        folder: String,
        /// Bytes that went into it.
        bytes: u64,
    },
    /// The scratch copy of a record cannot be made, written or read.
    #[error(
        "{folder}: cannot keep a scratch copy of a record read in reverse ({cause}); set TMPDIR to another folder"
    )]
    Scratch {
        /// Folder of the copy.
        folder: String,
        /// The system's words.
        cause: io::Error,
    },
    /// The operating system's own error.
    #[error("{path}: {cause}")]
    Io {
        /// The input.
        path: String,
        /// Its words.
        cause: io::Error,
    },
}

impl From<crate::VcfError> for Error {
    fn from(e: crate::VcfError) -> Self {
        Self::Vcf(Box::new(e))
    }
}

impl Error {
    /// Whether the user asked for a known format that is not supported yet: exit code 2.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Error::NotBuilt { .. }
                | Error::Mixed { .. }
                | Error::Compression { .. }
                | Error::Audio(
                    AudioError::IsDna { .. }
                        | AudioError::IsSound { .. }
                        | AudioError::Channels { .. }
                        | AudioError::NoChannel { .. }
                )
        )
    }

    /// Whether one record is bad and the reading can go on after it, as
    /// [`SequenceSource::next`](crate::SequenceSource::next) then does.
    pub fn is_bad_record(&self) -> bool {
        match self {
            Error::NotNucleotide { .. } | Error::NoId { .. } => true,
            Error::Vcf(e) => e.is_bad_record(),
            Error::Table(e) => matches!(
                e,
                TableError::NotNucleotide { .. } | TableError::NoSequence { .. } | TableError::NoId { .. }
            ),
            _ => false,
        }
    }
}

/// `0x21 '!'`, or the number alone for what a terminal cannot show.
fn show(byte: &u8) -> String {
    match byte {
        b' '..=b'~' => format!("{byte:#04x} '{}'", char::from(*byte)),
        _ => format!("{byte:#04x}"),
    }
}

fn deeper(recursive: &bool) -> &'static str {
    if *recursive { "" } else { "; --recursive looks further down" }
}

fn pipe(cat: &str, path: &str) -> String {
    match path {
        crate::inputs::STDIN_LABEL => format!("{cat} | mamba-seq embed -"),
        _ => format!("{cat} {path} | mamba-seq embed -"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_message() {
        let mut e = Error::NotNucleotide {
            path: "genome.fa".into(),
            id: "chr2".into(),
            base: 10413,
            line: 174,
            byte: b'!',
        };
        assert_eq!(
            e.to_string(),
            "genome.fa: record 'chr2', base 10413 (line 174): byte 0x21 '!' is not a nucleotide code; remove it"
        );
        if let Error::NotNucleotide { byte, .. } = &mut e {
            *byte = 7;
        }
        assert!(e.to_string().contains("byte 0x07 is not"));
        assert!(!e.is_usage() && e.is_bad_record());
    }

    #[test]
    fn io_errors_keep_their_cause() {
        let e = Error::Io { path: "x.fa".into(), cause: io::Error::other("disk on fire") };
        assert_eq!(e.to_string(), "x.fa: disk on fire");
    }
}
