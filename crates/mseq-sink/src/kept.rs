//! Columns of an input table on their way through: values by record, joined with the rows of each.

use std::collections::VecDeque;
use std::fmt::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::Fields;
use arrow_select::interleave::interleave;
use sha2::{Digest, Sha256};

use crate::value::{bytes_of, feed};
use crate::{Error, Result};

/// Values of the kept columns for some records, in input order.
#[derive(Debug, Clone)]
pub struct KeptRows {
    /// The record of each row, never falling.
    records: Vec<u64>,
    batch: RecordBatch,
}

impl KeptRows {
    /// Row `i` of `batch` belongs to the record `first_record + i`.
    pub fn new(first_record: u64, batch: RecordBatch) -> Self {
        Self { records: (first_record..).take(batch.num_rows()).collect(), batch }
    }

    /// The columns of a batch of the output from number `from` on; a record may have many rows.
    pub(crate) fn of_output(batch: &RecordBatch, from: usize) -> Result<Self> {
        let records = batch.column_by_name("record_index").and_then(|c| c.as_primitive_opt::<UInt64Type>());
        let records = records.map_or(Vec::new(), |c| c.values().to_vec());
        let columns: Vec<usize> = (from..batch.num_columns()).collect();
        Ok(Self { records, batch: batch.project(&columns)? })
    }

    /// Heap bytes that it keeps alive: what a queue counts.
    pub fn bytes(&self) -> usize {
        self.records.len() * size_of::<u64>() + self.batch.get_array_memory_size()
    }

    fn last(&self) -> Option<u64> {
        self.records.last().copied()
    }
}

/// Batches of kept values that rows are still to come for, and how far the rows are.
///
/// Rows come in input order, so a batch is let go when a row of a later record comes.
#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<KeptRows>,
    /// In the first of them.
    at: usize,
}

impl Waiting {
    /// Adds a batch, unless all its records are known already: a record of many rows may have many
    /// batches, each with the same values.
    fn add(&mut self, rows: KeptRows) {
        let known = self.batches.back().and_then(KeptRows::last);
        if rows.last().is_some_and(|last| known != Some(last)) {
            self.batches.push_back(rows);
        }
    }

    /// The next row, and its record.
    fn front(&self) -> Option<(&RecordBatch, usize, u64)> {
        let rows = self.batches.front()?;
        Some((&rows.batch, self.at, *rows.records.get(self.at)?))
    }

    /// Goes on to the next row; true when that is in another batch.
    fn advance(&mut self) -> bool {
        self.at += 1;
        let over = self.batches.front().is_some_and(|rows| self.at >= rows.records.len());
        if over {
            self.batches.pop_front();
            self.at = 0;
        }
        over
    }
}

/// The kept columns of the rows that are not yet encoded.
pub(crate) struct KeptColumns {
    fields: Fields,
    waiting: Waiting,
    /// Batches that picked rows are in, the one in front of `waiting` last if `open`.
    used: Vec<RecordBatch>,
    open: bool,
    /// Batch and row of each row of output.
    picks: Vec<(usize, usize)>,
    /// The record of the last pick, and the bytes of its values.
    last: Option<(u64, usize)>,
}

impl KeptColumns {
    pub(crate) fn new(fields: Fields) -> Self {
        let (used, picks) = (Vec::new(), Vec::new());
        Self { fields, waiting: Waiting::default(), used, open: false, picks, last: None }
    }

    /// Takes values of records, before the rows of these come.
    pub(crate) fn keep(&mut self, rows: KeptRows) -> Result<()> {
        let types = rows.batch.columns().iter().map(|c| c.data_type());
        if rows.records.len() != rows.batch.num_rows() || !types.eq(self.fields.iter().map(|f| f.data_type()))
        {
            return Err(Error::KeptShape { columns: rows.batch.num_columns(), want: self.fields.len() });
        }
        self.waiting.add(rows);
        Ok(())
    }

    /// Adds the values of `record` for one more row, and says how many bytes they take.
    pub(crate) fn push(&mut self, record: u64) -> Result<usize> {
        if self.fields.is_empty() {
            return Ok(0);
        }
        while let Some((batch, at, of_row)) = self.waiting.front() {
            if of_row < record {
                self.open &= !self.waiting.advance();
                continue;
            }
            if of_row > record {
                break;
            }
            let bytes = match self.last {
                Some((known, bytes)) if known == record => bytes,
                _ => bytes_of(batch.columns(), at)?,
            };
            if !self.open {
                self.used.push(batch.clone());
                self.open = true;
            }
            self.picks.push((self.used.len() - 1, at));
            self.last = Some((record, bytes));
            return Ok(bytes);
        }
        Err(Error::KeptMissing { record })
    }

    /// The columns of the rows so far, which it forgets.
    pub(crate) fn take(&mut self) -> Result<Vec<ArrayRef>> {
        let column = |i: usize| {
            let all: Vec<&dyn Array> = self.used.iter().map(|batch| batch.column(i).as_ref()).collect();
            Ok(interleave(&all, &self.picks)?)
        };
        let columns = (0..self.fields.len()).map(column).collect::<Result<_>>();
        self.used.clear();
        self.picks.clear();
        self.open = false;
        columns
    }
}

/// What the rows on the disk had for kept values: a resumed job must read the same again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptMark {
    /// The record of the last row.
    pub record: u64,
    /// SHA-256 of the values of all records up to it, as hex.
    pub sha256: String,
}

/// Follows the kept values that are used, to make a [`KeptMark`] at any time and to compare with
/// that of an earlier run.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    waiting: Waiting,
    hasher: Sha256,
    /// The last record in the hash.
    record: Option<u64>,
    earlier: Option<KeptMark>,
}

impl Trail {
    /// Goes on after `earlier`.
    pub(crate) fn new(earlier: Option<KeptMark>) -> Self {
        Self { earlier, ..Self::default() }
    }

    /// Follows the values; gives back those that rows are still to come for. Between them and the
    /// start of a resumed job may lie the whole table, which must not pile up.
    pub(crate) fn add(&mut self, rows: KeptRows) -> Result<Option<KeptRows>> {
        self.waiting.add(rows.clone());
        let Some(mark) = self.earlier.take() else { return Ok(Some(rows)) };
        self.follow(mark.record)?;
        if rows.last().is_none_or(|last| last < mark.record) {
            self.earlier = Some(mark);
            return Ok(None);
        }
        match self.mark() {
            Some(found) if found == mark => Ok(Some(rows)),
            _ => Err(Error::OtherKept),
        }
    }

    /// Rows of `record` are written, and so are all before it.
    pub(crate) fn follow(&mut self, record: u64) -> Result<()> {
        while let Some((batch, at, of_row)) = self.waiting.front().filter(|front| front.2 <= record) {
            self.hasher.update(of_row.to_le_bytes());
            for column in batch.columns() {
                feed(column, at, &mut |bytes| self.hasher.update(bytes))?;
            }
            self.record = Some(of_row);
            self.waiting.advance();
        }
        Ok(())
    }

    /// Where it is; `None` when no value was used.
    pub(crate) fn mark(&self) -> Option<KeptMark> {
        if let Some(earlier) = &self.earlier {
            return Some(earlier.clone());
        }
        let mut sha256 = String::new();
        for byte in self.hasher.clone().finalize() {
            // Writing to a String never fails.
            write!(sha256, "{byte:02x}").ok();
        }
        self.record.map(|record| KeptMark { record, sha256 })
    }
}

#[cfg(test)]
mod tests;
