use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::{Error, Pending, Result};

/// Rows of a row group.
const GROUP: usize = 1 << 16;

/// The effect of one alternative allele.
#[derive(Debug, Clone, PartialEq)]
pub struct VariantRow {
    /// 0-based record of the VCF file.
    pub record_index: u64,
    /// Contig.
    pub chrom: String,
    /// 1-based place.
    pub pos: u64,
    /// Reference allele.
    pub reference: String,
    /// Alternative allele.
    pub alt: String,
    /// Strand that was read.
    pub strand: &'static str,
    /// log P(alternative) - log P(reference), nats.
    pub llr: f64,
    /// The difference of the means a base.
    pub llr_per_base: f64,
    /// Euclidean distance between mean hidden states.
    pub distance: f64,
}

/// Effects to one Parquet file, which appears under its name when it is complete.
pub struct VariantSink {
    writer: ArrowWriter<File>,
    pending: Pending,
    schema: SchemaRef,
    source: String,
    rows: Vec<VariantRow>,
    written: u64,
}

impl VariantSink {
    /// Opens a temporary file beside `path`; `source` is the VCF as the user named it, `metadata` goes
    /// into the file.
    ///
    /// # Errors
    /// As for [`check_output`](crate::check_output), and when the folder is not writable.
    pub fn create(path: &Path, source: &str, metadata: &[(String, String)]) -> Result<Self> {
        let field = |name: &str, of: DataType| Field::new(name, of, false);
        let fields = vec![
            field("source", DataType::Utf8),
            field("record_index", DataType::UInt64),
            field("chrom", DataType::Utf8),
            field("pos", DataType::UInt64),
            field("ref", DataType::Utf8),
            field("alt", DataType::Utf8),
            field("strand", DataType::Utf8),
            field("llr", DataType::Float64),
            field("llr_per_base", DataType::Float64),
            field("distance", DataType::Float64),
        ];
        let metadata: std::collections::HashMap<String, String> = metadata.iter().cloned().collect();
        let schema = Arc::new(Schema::new(fields).with_metadata(metadata.clone()));
        let (pending, file) = Pending::create(path)?;
        let fail = |e| Error::parquet(path, e);
        let mut pairs: Vec<_> = metadata.into_iter().collect();
        pairs.sort();
        let pairs = pairs.into_iter().map(|(key, value)| parquet::file::metadata::KeyValue::new(key, value));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(fail)?))
            .set_key_value_metadata(Some(pairs.collect()))
            .build();
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).map_err(fail)?;
        Ok(Self { writer, pending, schema, source: source.to_owned(), rows: Vec::new(), written: 0 })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When a number is not finite, or rows can't be written.
    pub fn write(&mut self, row: VariantRow) -> Result<()> {
        if let Some(value) = [row.llr, row.llr_per_base, row.distance].into_iter().find(|v| !v.is_finite()) {
            let (record, start) = (row.chrom, row.pos - 1);
            return Err(Error::NotFinite { record, start, channel: 0, value: value as f32 });
        }
        self.rows.push(row);
        if self.rows.len() == GROUP { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let text = |get: fn(&VariantRow) -> &str| -> ArrayRef {
            Arc::new(rows.iter().map(|row| Some(get(row))).collect::<StringArray>())
        };
        let whole = |get: fn(&VariantRow) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(get)))
        };
        let real = |get: fn(&VariantRow) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(rows.iter().map(get)))
        };
        let source = StringArray::from_iter_values(std::iter::repeat_n(&self.source, rows.len()));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(source),
            whole(|r| r.record_index),
            text(|r| &r.chrom),
            whole(|r| r.pos),
            text(|r| &r.reference),
            text(|r| &r.alt),
            text(|r| r.strand),
            real(|r| r.llr),
            real(|r| r.llr_per_base),
            real(|r| r.distance),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let fail = |e| Error::parquet(self.pending.path(), e);
        self.writer.write(&batch).and_then(|()| self.writer.flush()).map_err(fail)?;
        self.written += rows.len() as u64;
        Ok(())
    }

    /// Gives the file its name; how many rows it has.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(mut self) -> Result<u64> {
        self.flush()?;
        let Self { writer, pending, written, .. } = self;
        let file = writer.into_inner().map_err(|e| Error::parquet(pending.path(), e))?;
        pending.publish(&file)?;
        Ok(written)
    }
}
