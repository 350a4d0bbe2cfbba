use std::path::Path;

use mseq_core::{EmbeddingDType, RowBlock};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::column::{Kind, RowBuffer};
use crate::file::Pending;
use crate::groups::Groups;
use crate::{Error, KeptRows, Options, Report, Result, RowLayout, Sink};

/// Memory that each closed row group takes until the footer is written, in bytes, as measured.
const FOOTER_BYTES_PER_GROUP: usize = 5 << 10;

/// Rows to one Parquet file, which appears under its name when it is complete.
///
/// A path that is a device or a pipe (`/dev/null`, a FIFO) is written to directly.
pub struct ParquetSink {
    // Before `pending`: the file is closed when its temporary name goes.
    groups: Groups,
    pending: Pending,
    buffer: RowBuffer,
    options: Options,
    rows: u64,
    /// Uncompressed bytes of the row group so far.
    group_bytes: usize,
    failed: bool,
}

impl ParquetSink {
    /// Opens a temporary file `.NAME.XXXXXX.partial` beside `path`.
    ///
    /// `metadata` (`mamba_seq.*` keys) becomes key-value metadata of the file and metadata of its
    /// Arrow schema.
    ///
    /// # Errors
    ///
    /// What [`check_output`](crate::check_output) finds; [`Error::Create`] when the folder is not
    /// writable; [`Error::Dim`]; [`Error::Parquet`] for a Zstandard level that does not exist.
    pub fn create(
        path: impl AsRef<Path>,
        layout: impl Into<RowLayout>,
        metadata: &[(String, String)],
        options: Options,
    ) -> Result<Self> {
        let path = path.as_ref();
        let fail = |e| Error::parquet(path, e);
        let buffer = RowBuffer::new(&layout.into(), metadata)?;
        let properties = properties(&buffer, metadata, &options).map_err(fail)?;
        let (pending, file) = Pending::create(path)?;
        let with = ArrowWriterOptions::new().with_properties(properties);
        let writer = ArrowWriter::try_new_with_options(file, buffer.schema().clone(), with).map_err(fail)?;
        let groups = Groups::new(writer, buffer.schema().clone(), options.encoders).map_err(fail)?;
        Ok(Self { groups, pending, buffer, options, rows: 0, group_bytes: 0, failed: false })
    }

    fn append(&mut self, rows: &RowBlock) -> Result<()> {
        self.buffer.check(rows)?;
        for i in 0..rows.len() {
            self.group_bytes += self.buffer.push(rows, i)?;
            let group_is_full =
                self.group_bytes >= group_limit(self.options.row_group_bytes, self.groups.ended());
            if group_is_full || self.buffer.bytes() >= self.options.batch_bytes {
                self.encode()?;
            }
            if group_is_full {
                let bytes = std::mem::take(&mut self.group_bytes);
                self.groups.end(bytes).map_err(|e| Error::parquet(self.pending.path(), e))?;
            }
        }
        self.rows += rows.len() as u64;
        Ok(())
    }

    /// Hands the buffered rows to the encoder.
    fn encode(&mut self) -> Result<()> {
        match self.buffer.take()? {
            None => Ok(()),
            Some(batch) => self.groups.write(batch).map_err(|e| Error::parquet(self.pending.path(), e)),
        }
    }
}

impl Sink for ParquetSink {
    fn write(&mut self, rows: &RowBlock) -> Result<()> {
        if self.failed {
            return Err(Error::Failed);
        }
        let result = self.append(rows);
        self.failed = result.is_err();
        result
    }

    fn keep(&mut self, kept: KeptRows) -> Result<()> {
        if self.failed {
            return Err(Error::Failed);
        }
        let result = self.buffer.keep(kept);
        self.failed = result.is_err();
        result
    }

    fn finish(mut self: Box<Self>) -> Result<Report> {
        if self.failed {
            return Err(Error::Failed);
        }
        self.encode()?;
        let footer =
            self.groups.finish(self.group_bytes).map_err(|e| Error::parquet(self.pending.path(), e))?;
        let report = Report {
            rows: self.rows,
            bytes: self.groups.bytes_written() as u64,
            row_groups: footer.num_row_groups() as u64,
            path: Some(self.pending.path().to_owned()),
        };
        self.pending.publish(self.groups.file())?;
        Ok(report)
    }
}

/// Uncompressed bytes of a row group that follows `closed` others: as large as their footer at
/// least, so that memory grows with no more than the square root of a file's size.
fn group_limit(row_group_bytes: usize, closed: usize) -> usize {
    row_group_bytes.max(closed * FOOTER_BYTES_PER_GROUP)
}

/// How each kind of column is encoded.
fn properties(
    buffer: &RowBuffer,
    metadata: &[(String, String)],
    options: &Options,
) -> Result<WriterProperties, ParquetError> {
    let pairs = metadata.iter().map(|(k, v)| KeyValue::new(k.clone(), v.clone())).collect();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(options.zstd_level)?))
        .set_key_value_metadata(Some(pairs))
        // Row groups are closed by bytes, in `append`.
        .set_max_row_group_row_count(None)
        .set_data_page_size_limit(options.page_bytes)
        .set_dictionary_page_size_limit(options.page_bytes)
        // Row groups are small: min and max of each are enough to skip by, and a page index would
        // only sit in memory until the end.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    for (name, kind) in buffer.kinds() {
        properties = match kind {
            Kind::Text => properties.set_column_dictionary_enabled(ColumnPath::from(name), true),
            Kind::Seconds => properties.set_column_dictionary_enabled(ColumnPath::from(name), false),
            Kind::Position => properties
                .set_column_dictionary_enabled(ColumnPath::from(name.as_str()), false)
                .set_column_encoding(ColumnPath::from(name), Encoding::DELTA_BINARY_PACKED),
            Kind::Number => properties
                .set_column_dictionary_enabled(ColumnPath::from(name.as_str()), false)
                .set_column_encoding(ColumnPath::from(name), Encoding::BYTE_STREAM_SPLIT),
            Kind::Values(dtype) => {
                let encoding = match dtype {
                    // The four bytes of a number go to four streams, and the exponents compress: 9 %
                    // smaller, 28 % for bf16 numbers.
                    EmbeddingDType::F32 => Encoding::BYTE_STREAM_SPLIT,
                    // Split it would be 6 % smaller, but DuckDB 2.0 cannot read that.
                    EmbeddingDType::F16 => Encoding::PLAIN,
                };
                let leaf = ColumnPath::new(vec![name, "list".to_owned(), "element".to_owned()]);
                properties
                    .set_column_dictionary_enabled(leaf.clone(), false)
                    .set_column_statistics_enabled(leaf.clone(), EnabledStatistics::None)
                    .set_column_encoding(leaf, encoding)
            }
        };
    }
    Ok(properties.build())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::file::metadata::ParquetMetaData;
    use proptest::prelude::*;

    use super::*;
    use crate::EmbedLayout;
    use crate::testing::{layouts, metadata, part, read_back, rows};

    fn small() -> Options {
        Options { row_group_bytes: 4096, batch_bytes: 700, page_bytes: 512, ..Options::default() }
    }

    /// Writes `block` in pieces that end at `cuts` and at its end.
    fn write(path: &Path, layout: EmbedLayout, block: &RowBlock, cuts: &[usize], options: Options) -> Report {
        let mut sink = Box::new(ParquetSink::create(path, layout, &metadata(), options).unwrap());
        let mut from = 0;
        for &to in cuts.iter().chain([&block.len()]) {
            sink.write(&part(block, from, to)).unwrap();
            from = to;
        }
        sink.finish().unwrap()
    }

    /// The schema, the rows and the footer of a file.
    fn read(path: &Path, dim: usize) -> (arrow_schema::SchemaRef, RowBlock, ParquetMetaData) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        let (schema, footer) = (reader.schema().clone(), reader.metadata().as_ref().clone());
        let batches: Vec<_> = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
        (schema, read_back(&batches, dim), footer)
    }

    fn f32_fixed(dim: usize) -> EmbedLayout {
        layouts(dim).next().unwrap()
    }

    #[test]
    fn round_trip_with_schema_and_metadata() {
        let folder = tempfile::tempdir().unwrap();
        for (k, layout) in layouts(5).enumerate() {
            for n in [0, 1, 300] {
                let path = folder.path().join(format!("{k}-{n}.parquet"));
                let block = rows(n, 5);
                let report = write(&path, layout, &block, &[], small());
                let (schema, back, footer) = read(&path, 5);
                assert_eq!(back, block);
                assert_eq!(schema.as_ref(), &layout.schema(&metadata()).unwrap());
                let pairs = footer.file_metadata().key_value_metadata().unwrap();
                for (key, value) in metadata() {
                    assert_eq!(pairs.iter().find(|p| p.key == key).unwrap().value, Some(value));
                }
                let bytes = fs::metadata(&path).unwrap().len();
                let row_groups = footer.num_row_groups() as u64;
                assert_eq!(report, Report { rows: n as u64, bytes, row_groups, path: Some(path) });
            }
        }
    }

    #[test]
    fn row_groups_are_bounded_and_never_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        write(&path, f32_fixed(16), &rows(1000, 16), &[1, 2, 500], small());
        let groups = read(&path, 16).2.row_groups().to_vec();
        assert!(groups.len() > 5);
        let row_bytes = 4 * 16 + 3 * 8 + "genome.fa".len() + "chr0".len() + 1 + 3 * 4;
        for (closed, group) in groups.iter().enumerate() {
            let most = group_limit(4096, closed).div_ceil(row_bytes) as i64;
            assert!((1..=most).contains(&group.num_rows()), "{closed}: {}", group.num_rows());
        }
        // A row larger than a group has one of its own.
        let report = write(&path, f32_fixed(2000), &rows(3, 2000), &[], small());
        assert_eq!(report.row_groups, 3);
    }

    #[test]
    fn encodings_are_as_meant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        for layout in layouts(4) {
            write(&path, layout, &rows(50, 4), &[], Options::default());
            let footer = read(&path, 4).2;
            for column in footer.row_group(0).columns() {
                let name = column.column_path().string();
                let encodings: Vec<_> = column.encodings().collect();
                let embedding = name == "embedding.list.element";
                let wanted = match name.as_str() {
                    "source" | "record" | "strand" => Encoding::RLE_DICTIONARY,
                    _ if !embedding => Encoding::DELTA_BINARY_PACKED,
                    _ if layout.dtype == EmbeddingDType::F32 => Encoding::BYTE_STREAM_SPLIT,
                    _ => Encoding::PLAIN,
                };
                assert!(encodings.contains(&wanted), "{name} {encodings:?}");
                assert_eq!(encodings.contains(&Encoding::RLE_DICTIONARY), wanted == Encoding::RLE_DICTIONARY);
                assert_eq!(column.statistics().is_some(), !embedding, "{name}");
                assert!(matches!(column.compression(), Compression::ZSTD(_)));
            }
        }
    }

    #[test]
    fn the_encoder_holds_little() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let mut sink = ParquetSink::create(&path, f32_fixed(128), &[], Options::default()).unwrap();
        let block = rows(500, 128);
        for _ in 0..40 {
            sink.write(&block).unwrap();
            assert!(sink.groups.memory_size() < 4 << 20, "{}", sink.groups.memory_size());
            assert!(sink.buffer.bytes() <= (64 << 10) + 600);
        }
        assert_eq!(group_limit(2 << 20, 400), 2 << 20);
        assert_eq!(group_limit(2 << 20, 4096), 20 << 20);
    }

    #[test]
    fn after_an_error_there_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let mut bad = rows(3, 2);
        bad.values[3] = f32::NAN;
        let mut sink = Box::new(ParquetSink::create(&path, f32_fixed(2), &[], small()).unwrap());
        let Err(Error::NotFinite { record, start, channel, .. }) = sink.write(&bad) else { panic!() };
        assert_eq!((record.as_str(), start, channel), ("chr0", 1000, 1));
        assert!(matches!(sink.write(&rows(1, 2)), Err(Error::Failed)));
        assert!(matches!(sink.finish(), Err(Error::Failed)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn devices_are_written_directly() {
        let sink = ParquetSink::create("/dev/null", f32_fixed(2), &[], small()).unwrap();
        assert!(Box::new(sink).finish().unwrap().bytes > 0);
        let mut sink = ParquetSink::create("/dev/full", f32_fixed(64), &[], small()).unwrap();
        let error = sink.write(&rows(2000, 64)).unwrap_err().to_string();
        assert!(error.starts_with("cannot write '/dev/full': No space left"), "{error}");
        assert!(error.ends_with("free some space or choose another folder with -o"), "{error}");
        let sink = ParquetSink::create("/dev/full", f32_fixed(64), &[], small()).unwrap();
        assert!(matches!(Box::new(sink).finish(), Err(Error::Write { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_split_and_any_encoders_give_the_same_file(
            n in 0usize..400, cuts in prop::collection::vec(0usize..400, 0..8), k in 0usize..4,
            encoders in 1usize..6,
        ) {
            let layout = layouts(3).nth(k).unwrap();
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(n)).collect();
            cuts.sort_unstable();
            let folder = tempfile::tempdir().unwrap();
            let (whole, split) = (folder.path().join("whole"), folder.path().join("split"));
            let block = rows(n, 3);
            write(&whole, layout, &block, &[], small());
            write(&split, layout, &block, &cuts, Options { encoders, ..small() });
            prop_assert_eq!(read(&split, 3).1, block);
            prop_assert_eq!(fs::read(&split).unwrap(), fs::read(&whole).unwrap());
        }
    }
}
