use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use mseq_core::{EmbeddingDType, ListType};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use crate::log::rows_of;
use crate::schema::Body;
use crate::{
    ClassLayout, EmbedLayout, Error, JOB_KEYS, KeptRows, NumberLayout, Options, ParquetSink, Report, Result,
    RowLayout, ScoreLayout, Sink,
};

/// Metadata beside [`JOB_KEYS`] that must be equal in all shards: what each of them counted over the
/// whole input.
const SAME: [&str; 2] = ["skipped_records", "input"];
/// Metadata that may differ; the merged file names each value once.
const EACH: [&str; 3] = ["model", "device", "chunk"];
/// Readers that are open at a time: each holds a page of every column, some 1 MiB.
const OPEN: usize = 16;
/// Bytes of the batches of all shards together, and the most of one.
const BATCHES: usize = 32 << 20;
const BATCH: usize = 256 << 10;
/// Missing shards that are named one by one.
const LISTED: usize = 10;

/// The Parquet files of a sharded job, checked to be all of it and nothing else.
pub struct Shards {
    /// In the order of their numbers.
    shards: Vec<Shard>,
    layout: RowLayout,
    /// Bytes of the kept columns of a row, where they are largest.
    kept_bytes: usize,
    /// Of the merged file, but for `mamba_seq.command`.
    metadata: Vec<(String, String)>,
}

/// One file, and how far it is read.
struct Shard {
    path: PathBuf,
    rows: u64,
    /// Rows that its batches so far had.
    read: u64,
    batch: Option<RecordBatch>,
    /// The next row in the batch.
    at: usize,
}

/// Record and start of a row.
type Key = (u64, u64);

/// What the footer of one file says.
struct Footer {
    path: PathBuf,
    number: u64,
    of: u64,
    rows: u64,
    kept_bytes: usize,
    /// Without the metadata.
    schema: Schema,
    /// Of the file, `mamba_seq.*`, in its order.
    metadata: Vec<(String, String)>,
}

impl Shards {
    /// Reads the footers of `paths` and checks that they are the shards of one job, each there once.
    ///
    /// # Errors
    ///
    /// [`Error::Shards`]: a file that can't be read or that no `embed` wrote, one of another job,
    /// of another number of shards or with other columns; a shard that is missing or there twice.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut first: Option<Footer> = None;
        // By number: the rest of a footer is as in the first, and forgotten.
        let mut found: BTreeMap<u64, Shard> = BTreeMap::new();
        let mut each: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut kept_bytes = 0;
        for path in paths {
            let footer = Footer::read(path)?;
            kept_bytes = kept_bytes.max(footer.kept_bytes);
            if let Some(first) = &first {
                footer.check(first)?;
            }
            for key in EACH {
                let values = each.entry(key).or_default();
                if let Some(value) = footer.get(key).filter(|v| !values.iter().any(|known| known == v)) {
                    values.push(value.to_owned());
                }
            }
            let shard = Shard { path: path.clone(), rows: footer.rows, read: 0, batch: None, at: 0 };
            if let Some(other) = found.insert(footer.number, shard) {
                return fail(format!(
                    "'{}' and '{}' are both shard {}/{}; give each shard once",
                    other.path.display(),
                    path.display(),
                    footer.number,
                    footer.of
                ));
            }
            first.get_or_insert(footer);
        }
        let Some(first) = first else { return fail("no shard is given".to_owned()) };
        missing(&found, first.of)?;
        let shards: Vec<Shard> = found.into_values().collect();
        let layout = layout_of(&first, &shards)?;
        Ok(Self { shards, layout, kept_bytes, metadata: merged(first.metadata, &each) })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.shards.len()
    }

    /// Writes the rows of all shards to `output` in the order of their records, with `command` in
    /// its metadata.
    ///
    /// Memory is bounded, however many shards there are: few of them are open at a time.
    ///
    /// # Errors
    ///
    /// As for [`ParquetSink::create`] and [`Sink::write`]; [`Error::Shards`] when a shard can't be
    /// read, is not in the order of its records, or has a record of another.
    pub fn merge(mut self, output: &Path, command: &str) -> Result<Report> {
        for (key, value) in &mut self.metadata {
            if key == "mamba_seq.command" {
                command.clone_into(value);
            }
        }
        let options = Options::for_layout(&self.layout);
        let layout = self.layout;
        let mut sink = Box::new(ParquetSink::create(output, layout.clone(), &self.metadata, options)?);
        let row_bytes = layout.dim() * 4 + 128 + self.kept_bytes;
        let mut readers = Readers::new(self.shards.len(), row_bytes);
        // Only where the context is cut in pieces, a record may be in two shards.
        let cut = self.metadata.iter().any(|(k, v)| k == "mamba_seq.context" && v != "whole");
        // The next row of each shard.
        let mut next = BinaryHeap::new();
        for (s, shard) in self.shards.iter_mut().enumerate() {
            if shard.load(s, &mut readers)? {
                next.push(Reverse((shard.key(), s)));
            }
        }
        while let Some(Reverse((key, s))) = next.pop() {
            let other = next.peek().map(|Reverse(other)| *other);
            let clash = |of_other: Key| of_other == key || (!cut && of_other.0 == key.0);
            if let Some((_, o)) = other.filter(|(of_other, _)| clash(*of_other)) {
                return fail(format!(
                    "record {} (record_index) is in '{}' and in '{}'; their inputs must have been one",
                    key.0,
                    self.shards[s].path.display(),
                    self.shards[o].path.display()
                ));
            }
            let shard = &mut self.shards[s];
            let before = other.map(|(key, _)| key);
            if let Some(key) = shard.copy(key, before, s, &mut readers, &mut sink, &layout)? {
                next.push(Reverse((key, s)));
            }
        }
        sink.finish()
    }
}

impl Shard {
    /// Makes the next rows ready; false when there are none.
    fn load(&mut self, s: usize, readers: &mut Readers) -> Result<bool> {
        while self.batch.as_ref().is_none_or(|batch| self.at == batch.num_rows()) {
            // Before the next one is read: they need not both fit.
            (self.batch, self.at) = (None, 0);
            if self.read == self.rows {
                readers.close(s);
                return Ok(false);
            }
            let batch = readers.next(s, self)?;
            self.read += batch.num_rows() as u64;
            self.batch = Some(batch);
        }
        Ok(true)
    }

    /// A column of positions of the batch.
    fn positions(&self, name: &str) -> &[u64] {
        let column = self.batch.as_ref().and_then(|batch| batch.column_by_name(name));
        column.and_then(|column| column.as_primitive_opt::<UInt64Type>()).map_or(&[], |c| c.values())
    }

    /// The place of the next row.
    fn key(&self) -> Key {
        let of = |name| self.positions(name).get(self.at).copied().unwrap_or(u64::MAX);
        (of("record_index"), of("start"))
    }

    /// Writes the row at `key` and those that follow it, up to the place `before`; gives the place
    /// of the first row that is left.
    fn copy(
        &mut self,
        mut key: Key,
        before: Option<Key>,
        s: usize,
        readers: &mut Readers,
        sink: &mut ParquetSink,
        layout: &RowLayout,
    ) -> Result<Option<Key>> {
        loop {
            let from = self.at;
            let mut to = from;
            let (records, starts) = (self.positions("record_index"), self.positions("start"));
            for of_row in records[from..].iter().copied().zip(starts[from..].iter().copied()) {
                if before.is_some_and(|before| of_row >= before) {
                    break;
                }
                if of_row < key {
                    return fail(format!(
                        "'{}': record {} (record_index), start {} comes after record {}, start {}; run its shard again",
                        self.path.display(),
                        of_row.0,
                        of_row.1,
                        key.0,
                        key.1
                    ));
                }
                key = of_row;
                to += 1;
            }
            if let Some(batch) = &self.batch {
                let batch = batch.slice(from, to - from);
                let (rows, dim) = (rows_of(&batch, layout.body()), layout.dim());
                if rows.len() != to - from || rows.values.len() != rows.len() * dim {
                    return fail(format!(
                        "'{}': its rows are not all {dim} values wide",
                        self.path.display()
                    ));
                }
                let kept = layout.kept().len();
                if kept > 0 {
                    sink.keep(KeptRows::of_output(&batch, batch.num_columns() - kept)?)?;
                }
                sink.write(&rows)?;
            }
            self.at = to;
            if self.batch.as_ref().is_some_and(|batch| to < batch.num_rows()) {
                return Ok(Some(self.key()));
            }
            if !self.load(s, readers)? {
                return Ok(None);
            }
        }
    }
}

/// The open files: those used last.
struct Readers {
    open: Vec<(usize, ParquetRecordBatchReader)>,
    batch_rows: usize,
}

impl Readers {
    fn new(shards: usize, row_bytes: usize) -> Self {
        let batch_rows = ((BATCHES / shards.max(1)).min(BATCH) / row_bytes).max(1);
        Self { open: Vec::new(), batch_rows }
    }

    /// The next batch of shard number `s`.
    fn next(&mut self, s: usize, shard: &Shard) -> Result<RecordBatch> {
        let unreadable = |cause: &dyn std::fmt::Display| {
            error(format!("'{}' cannot be read: {cause}; run its shard again", shard.path.display()))
        };
        let mut reader = match self.open.iter().position(|(open, _)| *open == s) {
            Some(i) => self.open.remove(i).1,
            None => {
                if self.open.len() >= OPEN {
                    self.open.remove(0);
                }
                let open = || reader_at(&shard.path, shard.read, self.batch_rows);
                mseq_core::decode(open).map_err(|e| unreadable(&e))?.map_err(|e| unreadable(&e))?
            }
        };
        // Damaged pages reach assertions of the decoder.
        match mseq_core::decode(|| reader.next()).map_err(|e| unreadable(&e))? {
            Some(Ok(batch)) => {
                self.open.push((s, reader));
                Ok(batch)
            }
            Some(Err(e)) => Err(unreadable(&e)),
            None => Err(unreadable(&"it has fewer rows than before")),
        }
    }

    fn close(&mut self, s: usize) {
        self.open.retain(|(open, _)| *open != s);
    }
}

/// A reader of `path` whose first row is number `row`.
fn reader_at(path: &Path, row: u64, batch_rows: usize) -> parquet::errors::Result<ParquetRecordBatchReader> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    // Whole row groups before it are not looked at.
    let (mut group, mut skip) = (0, row as usize);
    let groups = builder.metadata().row_groups();
    while let Some(rows) = groups.get(group).map(|g| g.num_rows() as usize).filter(|rows| *rows <= skip) {
        skip -= rows;
        group += 1;
    }
    let groups = (group..groups.len()).collect();
    builder.with_row_groups(groups).with_offset(skip).with_batch_size(batch_rows).build()
}

impl Footer {
    fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let file = File::open(path);
        let file = file.and_then(|file| match file.metadata()?.is_dir() {
            true => Err(std::io::ErrorKind::IsADirectory.into()),
            false => Ok(file),
        });
        let file = file.map_err(|e| error(format!("cannot open '{name}': {e}")))?;
        let foreign = |what: &str| {
            error(format!("'{name}' {what}; give the files that `mamba-seq embed --shard` wrote"))
        };
        let builder = mseq_core::decode(|| ParquetRecordBatchReaderBuilder::try_new(file));
        let builder = builder.map_err(|e| foreign(&format!("is no complete Parquet file ({e})")))?;
        let builder = builder.map_err(|e| foreign(&format!("is no complete Parquet file ({e})")))?;
        let file = builder.metadata().file_metadata();
        let metadata: Vec<(String, String)> = file.key_value_metadata().map_or(Vec::new(), |pairs| {
            let ours = pairs.iter().filter(|pair| pair.key.starts_with("mamba_seq."));
            ours.map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default())).collect()
        });
        let mut footer = Self {
            path: path.to_owned(),
            number: 1,
            of: 1,
            rows: file.num_rows() as u64,
            kept_bytes: kept_bytes(builder.metadata()),
            schema: Schema::new(builder.schema().fields().clone()),
            metadata,
        };
        if footer.get("version").is_none() {
            return Err(foreign("was not written by mamba-seq (it has no mamba_seq.version)"));
        }
        let text = footer.get("shard").unwrap_or("1/1");
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((number, of)) if 0 < number && number <= of => (footer.number, footer.of) = (number, of),
            _ => return Err(foreign(&format!("has no shard number (mamba_seq.shard is '{text}')"))),
        }
        Ok(footer)
    }

    /// The value of `mamba_seq.KEY`.
    fn get(&self, key: &str) -> Option<&str> {
        let named = |name: &str| name.strip_prefix("mamba_seq.") == Some(key);
        self.metadata.iter().find(|(name, _)| named(name)).map(|(_, value)| value.as_str())
    }

    /// Fails unless it can be of the same job as `first`.
    fn check(&self, first: &Self) -> Result<()> {
        let (name, known) = (self.path.display(), first.path.display());
        let say = |value: Option<&str>| value.map_or("not there".to_owned(), |v| format!("'{v}'"));
        for key in JOB_KEYS.into_iter().chain(SAME) {
            let (a, b) = (first.get(key), self.get(key));
            if a != b {
                let (a, b) = (say(a), say(b));
                return fail(format!(
                    "mamba_seq.{key} is {a} in '{known}' and {b} in '{name}'; merge the shards of one job"
                ));
            }
        }
        if self.of != first.of {
            return fail(format!(
                "'{known}' is shard {}/{} and '{name}' is shard {}/{}; merge the shards of one job",
                first.number, first.of, self.number, self.of
            ));
        }
        if self.schema != first.schema {
            let columns = |f: &Self| {
                let columns = f.schema.fields().iter().map(|c| format!("{} {}", c.name(), c.data_type()));
                columns.collect::<Vec<_>>()
            };
            let (a, b) = (columns(first), columns(self));
            let only = |a: &[String], b: &[String]| {
                let only: Vec<_> = a.iter().filter(|c| !b.contains(c)).map(String::as_str).collect();
                if only.is_empty() { "none".to_owned() } else { only.join(", ") }
            };
            return fail(format!(
                "'{known}' and '{name}' have different columns: {} against {}; merge the shards of one job",
                only(&a, &b),
                only(&b, &a)
            ));
        }
        Ok(())
    }
}

/// Fails unless shards 1 to `of` are all there.
fn missing(found: &BTreeMap<u64, Shard>, of: u64) -> Result<()> {
    let absent = of - found.len() as u64;
    if absent == 0 {
        return Ok(());
    }
    let listed: Vec<String> = (1..=of)
        .filter(|number| !found.contains_key(number))
        .take(LISTED)
        .map(|number| format!("{number}/{of}"))
        .collect();
    let more = match absent - listed.len() as u64 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shards = if absent == 1 { "shard" } else { "shards" };
    let are = if absent == 1 { "is" } else { "are" };
    fail(format!("{shards} {}{more} {are} missing; give all {of} shards", listed.join(", ")))
}

/// Bytes of the kept columns of a row, in the row group where they are largest.
fn kept_bytes(file: &ParquetMetaData) -> usize {
    let of_group = |group: &RowGroupMetaData| {
        let columns = group.columns().iter().enumerate();
        let kept =
            columns.filter(|(i, _)| group.schema_descr().get_column_root(*i).name().starts_with("input."));
        // What a dictionary takes in the file says little.
        let bytes = kept.map(|(_, c)| {
            c.uncompressed_size().max(c.unencoded_byte_array_data_bytes().unwrap_or(0)).max(0) as u64
        });
        bytes.sum::<u64>() / group.num_rows().max(1) as u64
    };
    usize::try_from(file.row_groups().iter().map(of_group).max().unwrap_or(0)).unwrap_or(usize::MAX / 2)
}

/// The layout that the files were written with.
fn layout_of(first: &Footer, shards: &[Shard]) -> Result<RowLayout> {
    let name = first.path.display();
    let region = first.schema.field_with_name("region").is_ok();
    let seconds = first.schema.field_with_name("start_s").is_ok();
    let column = |name: &str| first.schema.field_with_name(name).ok().map(|field| field.data_type());
    let body: Body = match (column("embedding"), column("nll"), column("probabilities")) {
        (Some(DataType::FixedSizeList(item, dim)), ..) => {
            EmbedLayout { dim: *dim as usize, dtype: element(item), list: ListType::Fixed, region, seconds }
                .into()
        }
        (Some(DataType::List(item)), ..) => {
            let dim = width(shards)?;
            EmbedLayout { dim, dtype: element(item), list: ListType::Variable, region, seconds }.into()
        }
        (None, Some(_), _) => ScoreLayout { region, seconds }.into(),
        (None, None, Some(lists)) => {
            let list = if matches!(lists, DataType::List(_)) { ListType::Variable } else { ListType::Fixed };
            ClassLayout { classes: classes(first)?, list, region, seconds }.into()
        }
        (None, None, None) if column("prediction").is_some() => NumberLayout { region, seconds }.into(),
        _ => {
            return fail(format!(
                "'{name}' has no column of embeddings, scores, classes or predictions; only files of `embed`, `score` and `classify` can be merged"
            ));
        }
    };
    let wanted = RowLayout::from(body.clone()).schema(&[])?;
    let (ours, others) =
        first.schema.fields().split_at(wanted.fields().len().min(first.schema.fields().len()));
    let layout = RowLayout::of_file(body, others).filter(|_| ours == &wanted.fields()[..]);
    let Some(layout) = layout else {
        let names =
            |schema: &Schema| schema.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>().join(", ");
        return fail(format!(
            "'{name}' has columns that this version cannot merge: {} and not {}",
            names(&first.schema),
            names(&wanted)
        ));
    };
    Ok(layout)
}

/// Element type of a list.
fn element(item: &Field) -> EmbeddingDType {
    match item.data_type() {
        DataType::Float16 => EmbeddingDType::F16,
        _ => EmbeddingDType::F32,
    }
}

/// Names of the classes, which are in the metadata alone.
fn classes(first: &Footer) -> Result<Arc<[Arc<str>]>> {
    let text = first.get("classes").unwrap_or_default();
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(names) if !names.is_empty() => Ok(names.into_iter().map(Arc::from).collect()),
        _ => fail(format!(
            "'{}' does not say its classes (mamba_seq.classes is '{text}'); run its shard again",
            first.path.display()
        )),
    }
}

/// Values in a list, which the type of variable lists does not say: as many as in the first row.
fn width(shards: &[Shard]) -> Result<usize> {
    let Some(shard) = shards.iter().find(|shard| shard.rows > 0) else { return Ok(1) };
    let batch = Readers { open: Vec::new(), batch_rows: 1 }.next(0, shard)?;
    let lists = batch.column_by_name("embedding").and_then(|column| column.as_list_opt::<i32>());
    Ok(lists.map_or(0, |lists| lists.value(0).len()))
}

/// The metadata of the merged file.
fn merged(first: Vec<(String, String)>, each: &BTreeMap<&str, Vec<String>>) -> Vec<(String, String)> {
    let mut metadata: Vec<(String, String)> = first
        .into_iter()
        .map(|(name, value)| {
            let key = name.strip_prefix("mamba_seq.").unwrap_or(&name);
            let value = match each.get(key) {
                Some(values) => values.join(", "),
                None if key == "shard" => "1/1".to_owned(),
                None => value,
            };
            (name, value)
        })
        .collect();
    for (name, value) in [("mamba_seq.shard", "1/1"), ("mamba_seq.command", "")] {
        if !metadata.iter().any(|(known, _)| known == name) {
            metadata.push((name.to_owned(), value.to_owned()));
        }
    }
    metadata
}

fn error(message: String) -> Error {
    Error::Shards { message }
}

fn fail<T>(message: String) -> Result<T> {
    Err(error(message))
}

#[cfg(test)]
mod tests;
