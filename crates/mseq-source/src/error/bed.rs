/// What is wrong in a BED file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BedError {
    /// Fewer than three columns.
    #[error(
        "{path}: line {line}: {columns} columns where BED has at least 3 (contig, start, end); mend the line"
    )]
    Columns {
        /// The BED file.
        path: String,
        /// 1-based line.
        line: u64,
        /// Columns there.
        columns: usize,
    },
    /// A start or end that is no number.
    #[error("{path}: line {line}: {what} '{value}' is not a number of bases; mend the line")]
    Number {
        /// The BED file.
        path: String,
        /// 1-based line.
        line: u64,
        /// `start` or `end`.
        what: &'static str,
        /// What stands there.
        value: String,
    },
    /// A start or end below zero.
    #[error("{path}: line {line}: {what} '{value}' is negative; BED counts bases from 0")]
    Negative {
        /// The BED file.
        path: String,
        /// 1-based line.
        line: u64,
        /// `start` or `end`.
        what: &'static str,
        /// What stands there.
        value: String,
    },
    /// An end before its start.
    #[error("{path}: line {line}: end {end} is before start {start}; swap them")]
    Reversed {
        /// The BED file.
        path: String,
        /// 1-based line.
        line: u64,
        /// First base, 0-based.
        start: u64,
        /// Base behind the last.
        end: u64,
    },
    /// An interval of no base.
    #[error(
        "{path}: line {line}: start and end are both {start}: the interval is empty (BED ends are exclusive); remove the line or raise the end"
    )]
    Empty {
        /// The BED file.
        path: String,
        /// 1-based line.
        line: u64,
        /// First base, 0-based.
        start: u64,
    },
    /// A line longer than any real one.
    #[error("{path}: line {line}: a line of more than {limit} bytes: this is not BED")]
    LongLine {
        /// The BED file.
        path: String,
        /// 1-based line.
        line: u64,
        /// Longest that is read.
        limit: usize,
    },
    /// A contig that no record has.
    #[error(
        "{path}: contig '{contig}'{} not in the input; use the ids of the input's records, or remove {}",
        match more { 0 => " is".to_owned(), n => format!(" and {n} more are") },
        match more { 0 => "its intervals", _ => "their intervals" }
    )]
    UnknownContig {
        /// The BED file.
        path: String,
        /// The first one.
        contig: String,
        /// How many others there are.
        more: usize,
    },
    /// An interval that ends behind its contig.
    #[error(
        "{path}: interval {contig}:{start}-{end} ends beyond the {bases} bases of '{contig}'; mend its end"
    )]
    Beyond {
        /// The BED file.
        path: String,
        /// The contig.
        contig: String,
        /// First base, 0-based.
        start: u64,
        /// Base behind the last.
        end: u64,
        /// Bases of the contig.
        bases: u64,
    },
    /// No interval at all.
    #[error("{path}: holds no interval; give it one, or leave --regions out for whole records")]
    NoInterval {
        /// The BED file.
        path: String,
    },
}
