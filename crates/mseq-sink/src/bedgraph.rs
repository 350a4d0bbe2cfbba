//! Scores as bedGraph: contig, start, end, bits a base.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use mseq_core::RowBlock;

use crate::file::Pending;
use crate::{Error, KeptRows, Report, Result, Sink};

/// Rows of scores to one bedGraph file, which appears under its name when it is complete.
///
/// The value is bits a base (`bpb`); a row without one is left out.
pub struct BedGraphSink {
    file: BufWriter<File>,
    pending: Pending,
    rows: u64,
    bytes: u64,
    /// The record that is being written, and the names of all so far: contigs, of which a genome has few.
    record: Option<u64>,
    names: HashSet<Arc<str>>,
}

impl BedGraphSink {
    /// Opens a temporary file beside `path`.
    ///
    /// # Errors
    /// As for [`ParquetSink::create`](crate::ParquetSink::create).
    pub fn create(path: &Path) -> Result<Self> {
        let (pending, file) = Pending::create(path)?;
        let file = BufWriter::with_capacity(1 << 16, file);
        Ok(Self { file, pending, rows: 0, bytes: 0, record: None, names: HashSet::new() })
    }

    fn fail(&self, cause: std::io::Error) -> Error {
        Error::write(self.pending.path(), cause)
    }
}

impl Sink for BedGraphSink {
    fn write(&mut self, rows: &RowBlock) -> Result<()> {
        for (key, score) in rows.keys.iter().zip(&rows.scores) {
            if self.record != Some(key.record_index) {
                self.record = Some(key.record_index);
                if !self.names.insert(Arc::clone(&key.record)) {
                    return Err(Error::same_name(self.pending.path(), &key.record));
                }
            }
            let Some(bits) = score.bits() else { continue };
            let line = format!("{}\t{}\t{}\t{bits:.6}\n", key.record, key.start, key.end);
            self.file.write_all(line.as_bytes()).map_err(|e| self.fail(e))?;
            self.rows += 1;
            self.bytes += line.len() as u64;
        }
        Ok(())
    }

    fn keep(&mut self, _: KeptRows) -> Result<()> {
        // There is no column for them.
        Err(Error::Failed)
    }

    fn finish(mut self: Box<Self>) -> Result<Report> {
        self.file.flush().map_err(|e| self.fail(e))?;
        let Self { file, pending, rows, bytes, .. } = *self;
        let path = Some(pending.path().to_owned());
        let file = file.into_inner().map_err(|e| Error::write(pending.path(), e.into_error()))?;
        pending.publish(&file)?;
        Ok(Report { rows, bytes, row_groups: 0, path })
    }
}
