use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::Fields;
use mseq_core::{Item, RecordHead, RecordTail, SequenceFormat};

use super::csv::CsvTable;
use super::format::{self, TableFormat, of_head, table_format};
use super::kept::KeptBatch;
use super::parquet::ParquetTable;
use super::{Rows, TableOptions, one_line, schema_error, texts};
use crate::decompress::decompress;
use crate::error::TableError;
use crate::fault::place;
use crate::{Counts, DnaTokenizer, Error, Keep, RecordFilter, Result, Strands, complement_byte};

/// What the format of a table's records is said to be: like reads, one row of output a record by
/// default. `SequenceFormat` has no name of its own for tables yet.
pub const TABLE_FORMAT: SequenceFormat = SequenceFormat::Fastq;

enum Reader {
    Text(CsvTable),
    Parquet(ParquetTable),
}

impl Reader {
    fn open(name: &str, options: &TableOptions) -> Result<(Arc<str>, Self)> {
        let (path, label): (_, Arc<str>) = match name {
            "-" => (None, "stdin".into()),
            _ => (Some(Path::new(name)), name.into()),
        };
        let io = |e: io::Error| place(e, &label, 1);
        let parquet = |file| ParquetTable::new(file, &label, options).map(Reader::Parquet);
        let found = path.map(table_format).transpose()?.flatten();
        let reader = match (found, path) {
            (Some(TableFormat::Parquet), Some(path)) => parquet(File::open(path).map_err(io)?)?,
            (Some(TableFormat::PackedParquet), Some(path)) => {
                parquet(format::unpack(path, &options.scratch_folder)?)?
            }
            _ => {
                let bytes: crate::decompress::Bytes = match path {
                    Some(path) => Box::new(File::open(path).map_err(io)?),
                    None => Box::new(io::stdin()),
                };
                let (head, text) = decompress(bytes).and_then(format::head).map_err(io)?;
                let separator = match of_head(&head, name, false) {
                    Some(TableFormat::Text(separator)) => separator,
                    Some(_) => return Err(TableError::Pipe { path: label.to_string() }.into()),
                    None => return Err(TableError::NotTable { path: label.to_string() }.into()),
                };
                Reader::Text(CsvTable::new(text, separator, &label, options)?)
            }
        };
        Ok((label, reader))
    }

    fn kept(&self) -> &Fields {
        match self {
            Reader::Text(table) => table.kept(),
            Reader::Parquet(table) => table.kept(),
        }
    }

    fn next(&mut self) -> Result<Option<Rows>> {
        match self {
            Reader::Text(table) => table.next(),
            Reader::Parquet(table) => table.next(),
        }
    }
}

/// The row that is being given.
struct Record {
    head: RecordHead,
    /// How many letters it has.
    all: u64,
    /// Those wanted, in reading order.
    bases: Vec<u8>,
    done: usize,
    tail: RecordTail,
    row: u64,
    /// What its reverse is.
    then: Option<Vec<u8>>,
}

/// The rows of all tables as the stream of tokens that [`SequenceSource`](crate::SequenceSource)
/// makes of records.
///
/// Rows are read in batches of a few MiB; a cell is held whole.
pub struct TableSource {
    names: VecDeque<String>,
    options: TableOptions,
    tokenizer: DnaTokenizer,
    block_len: usize,
    kept_columns: Fields,
    open: Option<(Arc<str>, Arc<str>, Reader)>,
    rows: Option<Rows>,
    /// Next row of `rows`.
    next: usize,
    /// Rows of the open table, and of all, that were begun.
    table_rows: u64,
    records: u64,
    bases: u64,
    record: Option<Record>,
    begun: bool,
    kept: Option<KeptBatch>,
    /// Whether the record's own kept row was given, which only a filter asks for.
    kept_given: bool,
    filter: Option<RecordFilter>,
    strands: Strands,
    over: bool,
}

impl TableSource {
    /// A source over the tables named, `-` being standard input, with blocks of at most `block_len`
    /// bases (0 counts as 1). The header of each file is looked at.
    ///
    /// # Errors
    ///
    /// A file that is no table or lacks a column; kept columns of one name and several types.
    pub fn open(
        names: &[String],
        options: TableOptions,
        tokenizer: DnaTokenizer,
        block_len: usize,
    ) -> Result<Self> {
        if names.is_empty() {
            return Err(Error::NoInput);
        }
        let (mut kept_columns, mut first) = (None, None);
        for (i, name) in names.iter().enumerate() {
            if i > 0 && name == "-" {
                if names[..i].contains(name) {
                    return Err(Error::StdinTwice);
                }
                continue;
            }
            let (label, reader) = Reader::open(name, &options)?;
            same_kept(&label, reader.kept(), kept_columns.get_or_insert(reader.kept().clone()))?;
            if i == 0 {
                first = Some((name.as_str().into(), label, reader));
            }
        }
        Ok(Self {
            names: names[1..].iter().cloned().collect(),
            options,
            tokenizer,
            block_len: block_len.max(1),
            kept_columns: kept_columns.unwrap_or_else(Fields::empty),
            open: first,
            rows: None,
            next: 0,
            table_rows: 0,
            records: 0,
            bases: 0,
            record: None,
            begun: false,
            kept: None,
            kept_given: false,
            filter: None,
            strands: Strands::Forward,
            over: false,
        })
    }

    /// Gives only what `filter` keeps of each row. Rows that are skipped are not checked.
    #[must_use]
    pub fn with_filter(mut self, filter: RecordFilter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Gives these strands of each row, as [`SequenceSource`](crate::SequenceSource) does.
    #[must_use]
    pub fn with_strands(mut self, strands: Strands) -> Self {
        self.strands = strands;
        self
    }

    /// The kept columns, called as in the table: all text in CSV and TSV, else as stored, but for
    /// text and lists, which have one layout (dictionaries are taken apart).
    pub fn kept_columns(&self) -> &Fields {
        &self.kept_columns
    }

    /// The kept columns of the record begun last, and of some that follow it; `None` when an earlier
    /// call gave them, so that asking after each `Begin` gives the values of each record once.
    ///
    /// With a filter each record has a batch of its own: the rows of one may be few and far between,
    /// and whoever waits for them would hold all the others too.
    ///
    /// # Errors
    ///
    /// Columns that cannot be copied: the table is broken.
    pub fn take_kept(&mut self) -> Result<Option<KeptBatch>> {
        if self.filter.is_none() {
            return Ok(self.kept.take());
        }
        let (Some(kept), Some(record)) = (&self.kept, &self.record) else { return Ok(None) };
        // Before the first `next` and after the last row of a record there is nothing to give.
        let Some(row) = kept.row(record.head.index).filter(|_| !self.kept_given) else { return Ok(None) };
        let label = self.open.as_ref().map_or("", |open| &open.1);
        let alone = kept.alone(row).map_err(|e| schema_error(label, &e))?;
        self.kept_given = true;
        Ok(Some(alone))
    }

    /// Bases given so far, over all rows and strands.
    pub fn bases_read(&self) -> u64 {
        self.bases
    }

    /// Rows begun so far, those skipped and bad counted.
    pub fn rows_read(&self) -> u64 {
        self.records
    }

    /// Reads what is left without making tokens or checking letters, and counts.
    ///
    /// # Errors
    ///
    /// Those of [`next`](Self::next) but for letters.
    pub fn count(mut self) -> Result<Counts> {
        let mut counts = Counts::default();
        while self.load()? {
            self.row()?;
            let bases = self.sequence()?;
            counts.records += 1;
            counts.bases += bases.len() as u64;
            counts.lengths.push(bases.len() as u64);
        }
        Ok(counts)
    }

    /// The next step of the stream, `None` after the last table.
    ///
    /// # Errors
    ///
    /// What [`TableError`] lists. After one that [`is_bad_record`](Error::is_bad_record) the next
    /// call goes on with the row behind it; after any other there is only `None`.
    #[expect(clippy::should_implement_trait, reason = "an iterator of Result<Option> reads worse")]
    pub fn next(&mut self) -> Result<Option<Item>> {
        if self.over {
            return Ok(None);
        }
        let step = self.step();
        if let Err(e) = &step {
            self.record = None;
            self.over = !e.is_bad_record();
        }
        step
    }

    fn step(&mut self) -> Result<Option<Item>> {
        while self.record.is_none() {
            if !self.load()? {
                return Ok(None);
            }
            let mut head = self.row()?;
            let keep = self.filter.as_mut().map_or(Keep::All, |filter| filter.choose(&head));
            let Some(range) = keep.range() else { continue };
            let bases = self.sequence()?;
            let at = |base: u64| usize::try_from(base).unwrap_or(usize::MAX).min(bases.len());
            let reverse = |bases: &[u8]| bases.iter().rev().map(|&b| complement_byte(b)).collect::<Vec<_>>();
            let mut runs = match self.strands {
                Strands::Forward => [Some(bases[..at(range.end)].to_vec()), None],
                Strands::Reverse => [Some(reverse(&bases[at(range.start)..])), None],
                Strands::Both => {
                    [Some(bases[..at(range.end)].to_vec()), Some(reverse(&bases[at(range.start)..]))]
                }
            };
            let all = bases.len() as u64;
            head.reversed = (self.strands == Strands::Reverse).then_some(all);
            (self.begun, self.kept_given) = (false, false);
            let (first, then) = (runs[0].take().unwrap_or_default(), runs[1].take());
            let row = self.table_rows - 1;
            self.record =
                Some(Record { head, all, bases: first, done: 0, tail: RecordTail::default(), row, then });
        }
        let Some(record) = &mut self.record else { return Ok(None) };
        if !std::mem::replace(&mut self.begun, true) {
            return Ok(Some(Item::Begin(record.head.clone())));
        }
        if record.done == record.bases.len() {
            let tail = std::mem::take(&mut record.tail);
            match record.then.take() {
                Some(then) => {
                    (record.bases, record.done) = (then, 0);
                    record.head.reversed = Some(record.all);
                    self.begun = false;
                }
                None => self.record = None,
            }
            return Ok(Some(Item::End(tail)));
        }
        let piece = &record.bases[record.done..record.bases.len().min(record.done + self.block_len)];
        let mut tokens = Vec::with_capacity(piece.len());
        let counts = self.tokenizer.encode(piece, &mut tokens).map_err(|bad| {
            let at = record.done + bad.at;
            let base = if record.head.reversed.is_some() { record.bases.len() - at } else { at + 1 };
            let (path, id) = (self.open.as_ref().map(|open| open.1.to_string()), one_line(&record.head.id));
            let path = path.unwrap_or_default();
            TableError::NotNucleotide { path, row: record.row, id, base: base as u64, byte: bad.byte }
        })?;
        record.done += piece.len();
        record.tail.bases += piece.len() as u64;
        record.tail.unknown += counts.unknown;
        record.tail.soft_masked += counts.soft_masked;
        self.bases += piece.len() as u64;
        Ok(Some(Item::Tokens(tokens)))
    }

    /// Makes sure that a next row is loaded; `false` after the last.
    fn load(&mut self) -> Result<bool> {
        while self.rows.as_ref().is_none_or(|rows| self.next == rows.kept.num_rows()) {
            self.rows = None;
            let Some((_, label, reader)) = &mut self.open else {
                let Some(name) = self.names.pop_front() else { return Ok(false) };
                let (label, reader) = Reader::open(&name, &self.options)?;
                same_kept(&label, reader.kept(), &self.kept_columns)?;
                (self.open, self.table_rows) = (Some((name.into(), label, reader)), 0);
                continue;
            };
            match reader.next()? {
                Some(rows) => {
                    let batch = rows.kept.clone();
                    let kept = KeptBatch { first_record: self.records, batch };
                    self.kept = (!self.kept_columns.is_empty()).then_some(kept);
                    (self.rows, self.next) = (Some(rows), 0);
                }
                None if self.table_rows == 0 => {
                    return Err(TableError::NoRow { path: label.to_string() }.into());
                }
                None => self.open = None,
            }
        }
        Ok(true)
    }

    /// Takes the next row of those loaded.
    fn row(&mut self) -> Result<RecordHead> {
        let (i, row, index) = (self.next, self.table_rows, self.records);
        self.next += 1;
        self.table_rows += 1;
        self.records += 1;
        let (Some(rows), Some((source, label, _))) = (&self.rows, &self.open) else {
            return Err(Error::NoInput);
        };
        let id: Arc<str> = match rows.ids.as_ref().map(|ids| texts::id(ids, i)) {
            None => row.to_string().into(),
            Some(Some(id)) if !id.is_empty() => id.into(),
            Some(other) => {
                let column = self.options.id_column.clone().unwrap_or_default();
                let what = if other.is_none() { "null" } else { "empty" };
                return Err(TableError::NoId { path: label.to_string(), row, column, what }.into());
            }
        };
        Ok(RecordHead {
            source: source.clone(),
            id,
            index,
            format: TABLE_FORMAT,
            reversed: None,
            signal: None,
        })
    }

    /// The letters of the row taken last.
    fn sequence(&self) -> Result<&[u8]> {
        let found = self.rows.as_ref().and_then(|rows| texts::text(&rows.sequences, self.next - 1));
        match found {
            Some(bases) if !bases.is_empty() => Ok(bases),
            _ => {
                let path = self.open.as_ref().map(|open| open.1.to_string()).unwrap_or_default();
                let what = if found.is_none() { "null" } else { "empty" };
                Err(TableError::NoSequence { path, row: self.table_rows - 1, what }.into())
            }
        }
    }
}

/// Kept columns must be of one type in all tables.
fn same_kept(path: &str, have: &Fields, want: &Fields) -> Result<()> {
    for (have, want) in have.iter().zip(want) {
        if have.data_type() != want.data_type() {
            return Err(TableError::KeptType {
                path: path.to_owned(),
                column: have.name().clone(),
                have: have.data_type().to_string(),
                want: want.data_type().to_string(),
            }
            .into());
        }
    }
    Ok(())
}
