use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Fields, Schema};

use super::{Columns, Rows, TableOptions, schema_error};
use crate::decompress::Bytes;
use crate::error::TableError;
use crate::fault::place;
use crate::{Error, Result};

/// Largest row that is read: a quote without its pair must not take the rest of the file into
/// memory.
const MAX_ROW_BYTES: usize = 256 << 20;
const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 1 << 20;
const BUFFER_BYTES: usize = 1 << 16;

/// Ends with an error when a row takes more than its share.
struct Limited {
    inner: Bytes,
    left: Arc<AtomicUsize>,
}

impl Read for Limited {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        let left = self.left.load(Ordering::Relaxed);
        if n > left {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.left.store(left - n, Ordering::Relaxed);
        Ok(n)
    }
}

/// Rows of CSV or TSV text with a header line. Kept columns are text, as they stand.
pub(super) struct CsvTable {
    reader: csv::Reader<BufReader<Limited>>,
    left: Arc<AtomicUsize>,
    limit: usize,
    record: csv::ByteRecord,
    path: Arc<str>,
    columns: Columns,
    kept: Fields,
    width: u64,
    /// An error behind the rows already given.
    error: Option<Error>,
    rows: u64,
}

impl CsvTable {
    /// `text` is decompressed and without byte order mark.
    pub(super) fn new(text: Bytes, separator: u8, path: &Arc<str>, options: &TableOptions) -> Result<Self> {
        Self::with_limit(text, separator, path, options, MAX_ROW_BYTES)
    }

    fn with_limit(
        text: Bytes,
        separator: u8,
        path: &Arc<str>,
        options: &TableOptions,
        limit: usize,
    ) -> Result<Self> {
        let left = Arc::new(AtomicUsize::new(limit));
        // A last line end, so that every row has one: `line` counts on it.
        let inner = Box::new(text.chain(&b"\n"[..]));
        let text = BufReader::with_capacity(BUFFER_BYTES, Limited { inner, left: left.clone() });
        let reader = csv::ReaderBuilder::new()
            .delimiter(separator)
            .has_headers(false)
            .flexible(true)
            // CR LF as one end makes the reader's line numbers late by one; the CR is dropped here.
            .terminator(csv::Terminator::Any(b'\n'))
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(text);
        let mut table = Self {
            reader,
            left,
            limit,
            record: csv::ByteRecord::new(),
            path: path.clone(),
            columns: Columns::default(),
            kept: Fields::empty(),
            width: 0,
            error: None,
            rows: 0,
        };
        if !table.read_row()? {
            return Err(TableError::NoColumn { path: path.to_string() }.into());
        }
        let names: Vec<_> =
            table.record.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        table.width = names.len() as u64;
        table.columns = Columns::find(path, &names, options)?;
        let field = |&i: &usize| Field::new(names[i].as_str(), DataType::Utf8, true);
        table.kept = table.columns.kept.iter().map(field).collect();
        Ok(table)
    }

    pub(super) fn kept(&self) -> &Fields {
        &self.kept
    }

    /// Reads the next line that is not blank; `false` at the end.
    fn read_row(&mut self) -> Result<bool> {
        loop {
            self.left.store(self.limit, Ordering::Relaxed);
            let line = self.reader.position().line();
            let read = self.reader.read_byte_record(&mut self.record);
            if !read.map_err(|e| self.error(e, line))? {
                return Ok(false);
            }
            let last = self.record.len().saturating_sub(1);
            let Some(kept) = self.record.get(last).and_then(|field| field.strip_suffix(b"\r")) else {
                return Ok(true);
            };
            if last > 0 || !kept.is_empty() {
                let kept = kept.to_vec();
                self.record.truncate(last);
                self.record.push_field(&kept);
                return Ok(true);
            }
        }
    }

    fn error(&self, e: csv::Error, line: u64) -> Error {
        let path = self.path.to_string();
        match e.into_kind() {
            csv::ErrorKind::Io(e) if e.kind() == io::ErrorKind::FileTooLarge => {
                TableError::LongRow { path, line, limit: self.limit }.into()
            }
            csv::ErrorKind::Io(e) => place(e, &path, line),
            other => Error::Io { path, cause: io::Error::other(format!("{other:?}")) },
        }
    }

    /// The line where the row just read starts; the reader only knows where it stopped.
    fn line(&self) -> u64 {
        let inside = self.record.as_slice().iter().filter(|&&b| b == b'\n').count() as u64;
        self.reader.position().line().saturating_sub(inside + 1)
    }

    /// The next rows, at least one; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Rows>> {
        if let Some(e) = self.error.take() {
            return Err(e);
        }
        let mut sequences = BinaryBuilder::new();
        let mut ids = self.columns.id.map(|_| BinaryBuilder::new());
        let mut kept: Vec<_> = self.kept.iter().map(|_| StringBuilder::new()).collect();
        let (mut rows, mut bytes) = (0, 0);
        while rows < BATCH_ROWS && bytes < BATCH_BYTES {
            match self.read_row().and_then(|more| {
                if more { self.add(rows, &mut sequences, &mut ids, &mut kept) } else { Ok(0) }
            }) {
                Ok(0) => break,
                Ok(n) => bytes += n,
                Err(e) if rows == 0 => return Err(e),
                Err(e) => {
                    self.error = Some(e);
                    break;
                }
            }
            rows += 1;
        }
        if rows == 0 {
            return Ok(None);
        }
        self.rows += rows as u64;
        let kept: Vec<ArrayRef> = kept.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef).collect();
        let schema = Arc::new(Schema::new(self.kept.clone()));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(Rows {
            sequences: Arc::new(sequences.finish()),
            ids: ids.map(|mut ids| Arc::new(ids.finish()) as ArrayRef),
            kept: RecordBatch::try_new_with_options(schema, kept, &options)
                .map_err(|e| schema_error(&self.path, &e))?,
        }))
    }

    /// Adds the row just read and says how many bytes it has, its end counted.
    fn add(
        &self,
        row: usize,
        sequences: &mut BinaryBuilder,
        ids: &mut Option<BinaryBuilder>,
        kept: &mut [StringBuilder],
    ) -> Result<usize> {
        let (path, fields, columns) = (|| self.path.to_string(), self.record.len() as u64, self.width);
        if fields != columns {
            let line = self.line();
            return Err(TableError::Ragged { path: path(), line, fields, columns }.into());
        }
        let field = |i: usize| self.record.get(i).unwrap_or_default();
        // Checked before anything is added, so that the columns stay of one length.
        let texts = self.columns.kept.iter().zip(self.kept.iter()).map(|(&i, name)| {
            std::str::from_utf8(field(i)).map_err(|_| {
                let row = self.rows + row as u64;
                TableError::NotUtf8 { path: path(), row, column: name.name().clone() }.into()
            })
        });
        let texts = texts.collect::<Result<Vec<_>>>()?;
        sequences.append_value(field(self.columns.sequence));
        if let (Some(ids), Some(i)) = (ids, self.columns.id) {
            ids.append_value(field(i));
        }
        kept.iter_mut().zip(texts).for_each(|(builder, text)| builder.append_value(text));
        Ok(self.record.as_slice().len() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Dribble;

    #[test]
    fn rows_are_bounded() {
        let text = [b"sequence\nACGT\n\"".to_vec(), vec![b'A'; 300_000]].concat();
        let text = Box::new(Dribble::new(&text, 999));
        let options = TableOptions::default();
        let mut table = CsvTable::with_limit(text, b',', &"x.csv".into(), &options, 100_000).unwrap();
        assert_eq!(table.next().unwrap().unwrap().kept.num_rows(), 1);
        assert_eq!(
            table.next().err().unwrap().to_string(),
            "x.csv: line 3: a row of more than 100000 bytes; give long sequences as FASTA"
        );
    }
}
