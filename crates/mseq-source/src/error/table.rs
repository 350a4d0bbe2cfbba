use super::show;

/// What is wrong in a table. Rows are 0-based, as `record` has them when there is no id column.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Not a table by name or content.
    #[error("{path}: not a CSV, TSV or Parquet table; its name should end in .csv, .tsv or .parquet")]
    NotTable {
        /// The table.
        path: String,
    },
    /// A table without a header or any column.
    #[error("{path}: holds no column; give it a header line")]
    NoColumn {
        /// The table.
        path: String,
    },
    /// A table without rows.
    #[error("{path}: holds no row; remove it from the inputs")]
    NoRow {
        /// The table.
        path: String,
    },
    /// A column that is not there.
    #[error("{path}: no column '{column}'; the columns are: {have}; choose with {option}")]
    Missing {
        /// The table.
        path: String,
        /// The column.
        column: String,
        /// Columns there are, joined.
        have: String,
        /// The option that names it.
        option: &'static str,
    },
    /// A name that two columns have.
    #[error("{path}: two columns are called '{column}'; rename one")]
    Twice {
        /// The table.
        path: String,
        /// The column.
        column: String,
    },
    /// A column of a type that holds no text.
    #[error("{path}: column '{column}' is {have}, not text; choose another with {option}")]
    Type {
        /// The table.
        path: String,
        /// The column.
        column: String,
        /// Its type.
        have: String,
        /// The option that names it.
        option: &'static str,
    },
    /// A column of a type that cannot be kept.
    #[error("{path}: column '{column}' is {have}, which cannot be kept; leave it out of --keep")]
    KeptKind {
        /// The table.
        path: String,
        /// The column.
        column: String,
        /// Its type.
        have: String,
    },
    /// A kept column that changes its type between files.
    #[error("{path}: kept column '{column}' is {have}, but {want} in the first table; convert one of them")]
    KeptType {
        /// The table.
        path: String,
        /// The column.
        column: String,
        /// Its type here.
        have: String,
        /// Its type in the first table.
        want: String,
    },
    /// A row without a sequence.
    #[error("{path}: row {row}: the sequence is {what}; remove the row")]
    NoSequence {
        /// The table.
        path: String,
        /// Row.
        row: u64,
        /// `null` or `empty`.
        what: &'static str,
    },
    /// A row without an id.
    #[error("{path}: row {row}: column '{column}' is {what}, and names the record; give it a value")]
    NoId {
        /// The table.
        path: String,
        /// Row.
        row: u64,
        /// The id column.
        column: String,
        /// `null` or `empty`.
        what: &'static str,
    },
    /// A byte in a sequence that is no IUPAC code, `-` or `*`.
    #[error(
        "{path}: row {row} (record '{id}'), base {base}: byte {} is not a nucleotide code; remove it",
        show(byte)
    )]
    NotNucleotide {
        /// The table.
        path: String,
        /// Row.
        row: u64,
        /// Record id.
        id: String,
        /// 1-based base.
        base: u64,
        /// The byte.
        byte: u8,
    },
    /// A row of more or fewer fields than the header.
    #[error("{path}: line {line}: {fields} fields where the header has {columns}; mend the line")]
    Ragged {
        /// The table.
        path: String,
        /// 1-based line.
        line: u64,
        /// Fields there.
        fields: u64,
        /// Columns of the header.
        columns: u64,
    },
    /// A row larger than memory should hold.
    #[error("{path}: line {line}: a row of more than {limit} bytes; give long sequences as FASTA")]
    LongRow {
        /// The table.
        path: String,
        /// 1-based line where it starts.
        line: u64,
        /// Largest that is read.
        limit: usize,
    },
    /// Text of a kept or id column that is not UTF-8.
    #[error("{path}: row {row}: column '{column}' is not UTF-8 text; convert the table with iconv")]
    NotUtf8 {
        /// The table.
        path: String,
        /// Row.
        row: u64,
        /// The column.
        column: String,
    },
    /// Parquet that does not decode.
    #[error("{path}: the Parquet data is damaged or of a kind not supported ({cause}); write it again")]
    Parquet {
        /// The table.
        path: String,
        /// The decoder's words.
        cause: String,
    },
    /// Parquet on standard input.
    #[error("{path}: Parquet cannot be read from a pipe, as its index is at its end; save it to a file")]
    Pipe {
        /// The table.
        path: String,
    },
}
