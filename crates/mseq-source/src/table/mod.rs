//! Tables with a sequence column: CSV, TSV and Parquet.

mod columns;
mod csv;
mod format;
mod kept;
mod pages;
mod parquet;
mod source;
#[cfg(test)]
mod tests;
mod texts;

use arrow_array::{ArrayRef, RecordBatch};

pub(crate) use columns::Columns;
pub use columns::TableOptions;
pub use format::{TableFormat, table_format};
pub use kept::KeptBatch;
pub use source::{TABLE_FORMAT, TableSource};

use crate::Error;

/// Some rows of a table, one after the other.
pub(crate) struct Rows {
    sequences: ArrayRef,
    ids: Option<ArrayRef>,
    /// The kept columns.
    kept: RecordBatch,
}

/// Columns of one batch that do not belong together: the file is broken.
fn schema_error(path: &str, e: &arrow_schema::ArrowError) -> Error {
    crate::TableError::Parquet { path: path.to_owned(), cause: e.to_string() }.into()
}

/// Text of a table for a message of one line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}
