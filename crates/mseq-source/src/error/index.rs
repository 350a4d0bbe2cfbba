/// What is wrong with an index beside a FASTA file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A line of a `.fai` without its five columns.
    #[error("{path}: line {line}: {columns} columns where a .fai has 5; remake it with samtools faidx")]
    Columns {
        /// The index.
        path: String,
        /// 1-based line.
        line: u64,
        /// Columns there.
        columns: usize,
    },
    /// A column of a `.fai` that cannot be.
    #[error("{path}: line {line}, column {column}: '{value}' is not {want}; remake it with samtools faidx")]
    Column {
        /// The index.
        path: String,
        /// 1-based line.
        line: u64,
        /// 1-based column.
        column: usize,
        /// What stands there.
        value: String,
        /// What should.
        want: &'static str,
    },
    /// A `.fai` that says something else than its file.
    #[error("{index} does not match {path} (record '{record}' {why}): remake it with samtools faidx")]
    Mismatch {
        /// The index.
        index: String,
        /// The FASTA file.
        path: String,
        /// Record where it shows.
        record: String,
        /// What is seen there.
        why: &'static str,
    },
    /// A `.gzi` that is damaged or does not lead to BGZF blocks.
    #[error("{index} does not match {path} ({why}): remake it with bgzip --reindex {path}")]
    Blocks {
        /// The `.gzi`.
        index: String,
        /// The FASTA file.
        path: String,
        /// What is wrong.
        why: String,
    },
}
