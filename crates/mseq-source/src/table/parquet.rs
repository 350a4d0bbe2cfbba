use std::fs::File;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Field, Fields, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::RowGroupMetaData;

use super::kept::plain;
use super::texts::{is_id, is_text};
use super::{Columns, Rows, TableOptions, pages, schema_error};
use crate::error::TableError;
use crate::{Error, Result};

const BATCH_BYTES: i64 = 4 << 20;
const BATCH_ROWS: i64 = 4096;
/// When the file does not say how long its texts are, as repeated ones take no room in it.
const BLIND_ROWS: i64 = 256;

/// Rows of a Parquet file, read a batch at a time.
pub(super) struct ParquetTable {
    file: File,
    metadata: ArrowReaderMetadata,
    path: Arc<str>,
    columns: Columns,
    kept: Fields,
    /// Columns read, in file order.
    roots: Vec<usize>,
    group: usize,
    reader: Option<ParquetRecordBatchReader>,
}

fn broken(path: &str, e: &dyn std::fmt::Display) -> Error {
    let cause = e.to_string().lines().next().unwrap_or_default().to_owned();
    TableError::Parquet { path: path.to_owned(), cause }.into()
}

/// What `work` reads; damaged files reach assertions of the decoder.
fn decoded<T, E: std::fmt::Display>(
    path: &str,
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<T> {
    match mseq_core::decode(work) {
        Ok(read) => read.map_err(|e| broken(path, &e)),
        Err(e) => Err(broken(path, &e)),
    }
}

impl ParquetTable {
    pub(super) fn new(file: File, path: &Arc<str>, options: &TableOptions) -> Result<Self> {
        let mut metadata = decoded(path, || ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()))?;
        let mut fields = metadata.schema().fields().clone();
        let names: Vec<_> = fields.iter().map(|f| f.name().clone()).collect();
        let columns = Columns::find(path, &names, options)?;
        let wrong = |i: usize, option| {
            let (column, have) = (names[i].clone(), fields[i].data_type().to_string());
            Error::from(TableError::Type { path: path.to_string(), column, have, option })
        };
        if !is_text(fields[columns.sequence].data_type()) {
            return Err(wrong(columns.sequence, "--sequence-column"));
        }
        if let Some(id) = columns.id.filter(|&id| !is_id(fields[id].data_type())) {
            return Err(wrong(id, "--id-column"));
        }
        let kept = columns.kept.iter().map(|&i| Some((i, plain(fields[i].data_type())?)));
        let kept = kept.collect::<Option<Vec<_>>>().ok_or_else(|| {
            let no = columns.kept.iter().find(|&&i| plain(fields[i].data_type()).is_none());
            let (column, have) =
                no.map_or_else(Default::default, |&i| (names[i].clone(), fields[i].data_type().to_string()));
            Error::from(TableError::KeptKind { path: path.to_string(), column, have })
        })?;
        if kept.iter().any(|(i, kind)| kind != fields[*i].data_type()) {
            // The decoder makes the plain types itself.
            let mut wanted: Vec<_> = fields.iter().cloned().collect();
            for (i, kind) in kept {
                wanted[i] = Arc::new(Field::clone(&fields[i]).with_data_type(kind));
            }
            fields = wanted.into();
            let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields.clone())));
            metadata = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options)
                .map_err(|e| broken(path, &e))?;
        }
        // Nulls allowed and no notes, so that files differ in nothing but the type.
        let plain = |&i: &usize| Field::new(&names[i], fields[i].data_type().clone(), true);
        let kept = columns.kept.iter().map(plain).collect();
        let mut roots: Vec<_> =
            columns.kept.iter().copied().chain([columns.sequence]).chain(columns.id).collect();
        roots.sort_unstable();
        roots.dedup();
        Ok(Self { file, metadata, path: path.clone(), columns, kept, roots, group: 0, reader: None })
    }

    pub(super) fn kept(&self) -> &Fields {
        &self.kept
    }

    /// The next rows, at least one; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Rows>> {
        loop {
            let batch = match &mut self.reader {
                Some(reader) => decoded(&self.path, || reader.next().transpose())?,
                None => None,
            };
            match batch {
                Some(batch) if batch.num_rows() > 0 => return self.rows(&batch).map(Some),
                Some(_) => {}
                None if self.group == self.metadata.metadata().num_row_groups() => return Ok(None),
                None => self.reader = Some(self.open_group()?),
            }
        }
    }

    fn open_group(&mut self) -> Result<ParquetRecordBatchReader> {
        let cause = |e| Error::Io { path: self.path.to_string(), cause: e };
        let file = self.file.try_clone().map_err(cause)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), self.roots.iter().copied());
        let group = self.metadata.metadata().row_group(self.group);
        decoded(&self.path, || pages::check(&self.file, group, |leaf| mask.leaf_included(leaf)))?;
        let rows = batch_rows(group, &mask);
        let builder = builder.with_projection(mask).with_batch_size(rows).with_row_groups(vec![self.group]);
        self.group += 1;
        decoded(&self.path, || builder.build())
    }

    fn rows(&self, batch: &RecordBatch) -> Result<Rows> {
        let column = |root: usize| {
            let at = self.roots.binary_search(&root).ok().filter(|&at| at < batch.num_columns());
            at.map(|at| batch.column(at).clone())
                .ok_or_else(|| broken(&self.path, &"a column is missing from a row group"))
        };
        let kept = self.columns.kept.iter().map(|&i| column(i)).collect::<Result<Vec<_>>>()?;
        let schema = Arc::new(Schema::new(self.kept.clone()));
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(Rows {
            sequences: column(self.columns.sequence)?,
            ids: self.columns.id.map(column).transpose()?,
            kept: RecordBatch::try_new_with_options(schema, kept, &options)
                .map_err(|e| schema_error(&self.path, &e))?,
        })
    }
}

/// Rows whose decoded columns take about `BATCH_BYTES`.
fn batch_rows(group: &RowGroupMetaData, mask: &ProjectionMask) -> usize {
    let (mut bytes, mut most) = (0_i64, BATCH_ROWS);
    for (_, column) in group.columns().iter().enumerate().filter(|(i, _)| mask.leaf_included(*i)) {
        let texts = column.unencoded_byte_array_data_bytes();
        if texts.is_none() && column.dictionary_page_offset().is_some() {
            most = BLIND_ROWS;
        }
        bytes = bytes.saturating_add(texts.unwrap_or(0).max(column.uncompressed_size()).max(0));
    }
    let rows = group.num_rows().max(1);
    usize::try_from((BATCH_BYTES / (bytes / rows).max(1)).clamp(1, most)).unwrap_or(1)
}
