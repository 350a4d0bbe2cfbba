use std::path::PathBuf;

use super::one_line;
use crate::Result;
use crate::error::TableError;

/// Which columns of a table are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOptions {
    /// Column of the sequence; `None` is `sequence`, else `seq`.
    pub sequence_column: Option<String>,
    /// Column of the record id; `None` is the 0-based row number.
    pub id_column: Option<String>,
    /// Columns carried through.
    pub keep: Vec<String>,
    /// Folder for unpacking gzipped Parquet.
    pub scratch_folder: PathBuf,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            sequence_column: None,
            id_column: None,
            keep: Vec::new(),
            scratch_folder: std::env::temp_dir(),
        }
    }
}

/// Positions of the columns in the table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Columns {
    pub(super) sequence: usize,
    pub(super) id: Option<usize>,
    pub(super) kept: Vec<usize>,
}

impl Columns {
    /// Finds the columns by their exact names.
    pub(super) fn find(path: &str, names: &[String], options: &TableOptions) -> Result<Self> {
        if names.iter().all(String::is_empty) {
            return Err(TableError::NoColumn { path: path.to_owned() }.into());
        }
        let position = |column: &str, option: &'static str| {
            let mut at = names.iter().enumerate().filter(|(_, name)| *name == column).map(|(i, _)| i);
            let (path, column) = (path.to_owned(), one_line(column));
            match (at.next(), at.next()) {
                (Some(i), None) => Ok(i),
                (Some(_), Some(_)) => Err(TableError::Twice { path, column }),
                (None, _) => {
                    Err(TableError::Missing { path, column, have: one_line(&names.join(", ")), option })
                }
            }
        };
        let by_default = || {
            if names.iter().any(|n| n == "sequence") || !names.iter().any(|n| n == "seq") {
                "sequence"
            } else {
                "seq"
            }
        };
        let sequence = options.sequence_column.as_deref().unwrap_or_else(by_default);
        let id = options.id_column.as_deref().map(|name| position(name, "--id-column")).transpose()?;
        let mut kept = Vec::new();
        for name in &options.keep {
            let at = position(name, "--keep")?;
            if !kept.contains(&at) {
                kept.push(at);
            }
        }
        Ok(Self { sequence: position(sequence, "--sequence-column")?, id, kept })
    }
}
